//! What kernels share: the size of a launch, and reductions over a cube.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::client::ComputeClient;
use cubecl::features::Plane;
use cubecl::prelude::*;

/// Units of a cube that works element by element.
pub(crate) const UNITS: u32 = 256;

/// Most cubes of one axis, as WebGPU promises.
const CUBES: usize = 65_535;

/// So many cubes or fewer: kernels go on in strides.
pub(crate) fn cubes(wanted: usize) -> CubeCount {
    CubeCount::Static(wanted.clamp(1, CUBES) as u32, 1, 1)
}

/// Cubes and units for a kernel that goes through `elements` one by one.
pub(crate) fn elementwise(elements: usize) -> (CubeCount, CubeDim) {
    let count = cubes(elements.div_ceil(UNITS as usize));
    (count, CubeDim::new_1d(UNITS))
}

/// How many neighbouring elements are read at once, where rows have `width` of them.
pub(crate) fn vector(width: usize) -> usize {
    match width {
        width if width.is_multiple_of(4) => 4,
        width if width.is_multiple_of(2) => 2,
        _ => 1,
    }
}

pub(crate) fn storage(dtype: DType) -> StorageType {
    dtype.into()
}

/// How the units of a cube come to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cube {
    pub units: u32,
    /// Size of the planes that add up by themselves; 0 where that is not known.
    pub plane: u32,
}

impl Cube {
    /// For rows of `width` reads, one at a time by each unit.
    pub fn of_rows<R: CubeRuntime>(client: &ComputeClient<R>, width: usize) -> Self {
        let properties = client.properties();
        let most = properties.hardware.max_units_per_cube.min(UNITS);
        let units = (width as u32).next_power_of_two().clamp(32.min(most), most);
        let (least, plane) = (
            properties.hardware.plane_size_min,
            properties.hardware.plane_size_max,
        );
        let known = properties.features.plane.contains(Plane::Ops) && least == plane;
        let plane = match known && plane > 0 && units.is_multiple_of(plane) {
            true => plane,
            false => 0,
        };
        Self { units, plane }
    }

    pub fn dim(self) -> CubeDim {
        CubeDim::new_1d(self.units)
    }
}

#[cube]
fn joined(a: f32, b: f32, #[comptime] largest: bool) -> f32 {
    if comptime!(largest) {
        select(a > b, a, b)
    } else {
        a + b
    }
}

/// The sum of a value over all units of a cube, or the largest, known to each of them. All units must come here.
#[cube]
#[allow(clippy::manual_is_multiple_of)] // numbers of the device have no such method
pub(crate) fn over_cube(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] cube: Cube,
    #[comptime] largest: bool,
) -> f32 {
    let unit = UNIT_POS as usize;
    // Nobody still reads what was there before.
    sync_cube();
    if comptime!(cube.plane > 0) {
        let of_plane = if comptime!(largest) {
            plane_max(value)
        } else {
            plane_sum(value)
        };
        let plane = comptime!(cube.plane as usize);
        if unit % plane == 0 {
            shared[unit / plane] = of_plane;
        }
        sync_cube();
        let mut all = shared[0];
        #[unroll]
        for other in 1..comptime!((cube.units / cube.plane) as usize) {
            all = joined(all, shared[other], largest);
        }
        all
    } else {
        shared[unit] = value;
        sync_cube();
        #[unroll]
        for step in 1..comptime!(cube.units.ilog2() + 1) {
            let reach = comptime!((cube.units >> step) as usize);
            if unit < reach {
                let other = shared[unit + reach];
                shared[unit] = joined(shared[unit], other, largest);
            }
            sync_cube();
        }
        shared[0]
    }
}

/// Sum over the lanes of a vector.
#[cube]
pub(crate) fn lanes<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = f32::new(0.0);
    #[unroll]
    for lane in 0..N::value() {
        sum += vector[lane];
    }
    sum
}
