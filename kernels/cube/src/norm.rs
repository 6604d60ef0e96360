//! Layer norm and RMS norm over rows, with f32 sums; mean and 1 / deviation of each row are kept for the way back.

use crate::Kernel;
use crate::cube::{Cube, cubes, lanes, over_cube, storage, vector};
use crate::sum::sums_of_rows;
use crate::tensor::{contiguous, elements, empty, shape};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// With weight and bias a layer norm, with a weight alone an RMS norm, which takes no mean away.
#[derive(Debug)]
pub(crate) struct Norm {
    pub eps: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct State<R: CubeRuntime> {
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias_type: DType,
    /// Mean and 1 / deviation of each row.
    rows: CubeTensor<R>,
    /// What the gradient of x is added to.
    onto: Option<CubeTensor<R>>,
}

/// Cubes of the way back: each goes through its rows, and leaves one share of the gradients of weight and bias.
const SHARES: usize = 512;
/// Most vectors of a row that a unit works on: its part of the weights' gradients is in registers.
const MOST: usize = 8;

#[cube(launch_unchecked)]
fn norm_forward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    weight: &Array<Vector<f32, N>>,
    bias: &Array<Vector<f32, N>>,
    y: &mut Array<Vector<F, N>>,
    rows: &mut Array<f32>,
    eps: f32,
    share: f32,
    #[comptime] centred: bool,
    #[comptime] cube: Cube,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let units = comptime!(cube.units as usize);
    let width = weight.len();
    let count = rows.len() / 2;
    let mut row = CUBE_POS;
    while row < count {
        let start = row * width;
        let mut mean = f32::new(0.0);
        if comptime!(centred) {
            let mut sum = Vector::<f32, N>::new(f32::new(0.0));
            let mut at = UNIT_POS as usize;
            while at < width {
                sum += Vector::cast_from(x[start + at]);
                at += units;
            }
            mean = over_cube(lanes::<N>(sum), &mut shared, cube, false) * share;
        }
        let means = Vector::<f32, N>::new(mean);
        let mut squares = Vector::<f32, N>::new(f32::new(0.0));
        let mut at = UNIT_POS as usize;
        while at < width {
            let off = Vector::<f32, N>::cast_from(x[start + at]) - means;
            squares += off * off;
            at += units;
        }
        let variance = over_cube(lanes::<N>(squares), &mut shared, cube, false) * share;
        let scale = f32::new(1.0) / (variance + eps).sqrt();
        let scales = Vector::<f32, N>::new(scale);
        let mut at = UNIT_POS as usize;
        while at < width {
            let off = Vector::<f32, N>::cast_from(x[start + at]) - means;
            let mut out = off * scales * weight[at];
            if comptime!(centred) {
                out += bias[at];
            }
            y[start + at] = Vector::cast_from(out);
            at += units;
        }
        if UNIT_POS == 0 {
            rows[2 * row] = mean;
            rows[2 * row + 1] = scale;
        }
        row += CUBE_COUNT;
    }
}

/// Gradient of `x`, added to what there is of it, and of weight and bias what the rows of each cube give to them, `[cubes, 2, width]`.
#[cube(launch_unchecked)]
fn norm_backward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    dy: &Array<Vector<F, N>>,
    weight: &Array<Vector<f32, N>>,
    rows: &Array<f32>,
    onto: &Array<Vector<F, N>>,
    dx: &mut Array<Vector<F, N>>,
    shares: &mut Array<Vector<f32, N>>,
    share: f32,
    #[comptime] centred: bool,
    #[comptime] adds: bool,
    #[comptime] each: usize,
    #[comptime] cube: Cube,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let width = weight.len();
    let count = rows.len() / 2;
    let zero = Vector::<f32, N>::new(f32::new(0.0));
    let mut dw = Array::<Vector<f32, N>>::new(each);
    let mut db = Array::<Vector<f32, N>>::new(each);
    #[unroll]
    for part in 0..each {
        dw[part] = zero;
        db[part] = zero;
    }
    let mut row = CUBE_POS;
    while row < count {
        let start = row * width;
        let means = Vector::<f32, N>::new(rows[2 * row]);
        let scale = rows[2 * row + 1];
        let scales = Vector::<f32, N>::new(scale);
        let mut plain = zero;
        let mut along = zero;
        #[unroll]
        for part in 0..each {
            let at = UNIT_POS as usize + comptime!(part * cube.units as usize);
            if at < width {
                let up = Vector::<f32, N>::cast_from(dy[start + at]);
                let normed = (Vector::<f32, N>::cast_from(x[start + at]) - means) * scales;
                dw[part] += up * normed;
                db[part] += up;
                let up = up * weight[at];
                plain += up;
                along += up * normed;
            }
        }
        let mut plain_mean = f32::new(0.0);
        if comptime!(centred) {
            plain_mean = over_cube(lanes::<N>(plain), &mut shared, cube, false) * share;
        }
        let along_mean = over_cube(lanes::<N>(along), &mut shared, cube, false) * share;
        let plain_means = Vector::<f32, N>::new(plain_mean);
        let along_means = Vector::<f32, N>::new(along_mean);
        #[unroll]
        for part in 0..each {
            let at = UNIT_POS as usize + comptime!(part * cube.units as usize);
            if at < width {
                let up = Vector::<f32, N>::cast_from(dy[start + at]) * weight[at];
                let normed = (Vector::<f32, N>::cast_from(x[start + at]) - means) * scales;
                let mut gradient = scales * (up - plain_means - normed * along_means);
                if comptime!(adds) {
                    gradient += Vector::cast_from(onto[start + at]);
                }
                dx[start + at] = Vector::cast_from(gradient);
            }
        }
        row += CUBE_COUNT;
    }
    #[unroll]
    for part in 0..each {
        let at = UNIT_POS as usize + comptime!(part * cube.units as usize);
        if at < width {
            let start = CUBE_POS * width * 2;
            shares[start + at] = dw[part];
            shares[start + width + at] = db[part];
        }
    }
}

impl Norm {
    fn fits<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>) -> bool {
        let &[width] = shape(weight) else {
            return false;
        };
        let cube = Cube::of_rows(&x.client, width);
        let reads = width / vector(width);
        shape(x).last() == Some(&width) && reads.div_ceil(cube.units as usize) <= MOST
    }

    fn run<R: CubeRuntime>(
        &self,
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        bias: Option<CubeTensor<R>>,
    ) -> (CubeTensor<R>, State<R>) {
        let (weight_type, width) = (weight.dtype, elements(&weight));
        let bias_type = bias.as_ref().map_or(weight_type, |bias| bias.dtype);
        let count = elements(&x) / width;
        let (size, client) = (vector(width), x.client.clone());
        let cube = Cube::of_rows(&client, width / size);
        let y = empty(&x, shape(&x), x.dtype);
        let rows = empty(&x, &[count, 2], DType::F32);
        let full = cast(weight.clone(), DType::F32);
        let centred = bias.is_some();
        // Without a bias something must stand in its place.
        let bias = bias.map_or_else(|| full.clone(), |bias| cast(bias, DType::F32));
        // SAFETY: x and y have `count` rows of the weight's width, and there are two numbers for each row.
        #[allow(unsafe_code)]
        unsafe {
            norm_forward::launch_unchecked::<R>(
                &client,
                cubes(count),
                cube.dim(),
                size,
                x.clone().into_array_arg(),
                full.into_array_arg(),
                bias.into_array_arg(),
                y.clone().into_array_arg(),
                rows.clone().into_array_arg(),
                self.eps as f32,
                1.0 / width as f32,
                centred,
                cube,
                storage(x.dtype),
            );
        }
        let state = State {
            x,
            weight,
            bias_type,
            rows,
            onto: None,
        };
        (y, state)
    }

    /// Gradients of x, and of weight and bias if they are wanted.
    fn back<R: CubeRuntime>(
        state: State<R>,
        dy: CubeTensor<R>,
        centred: bool,
        weights: bool,
    ) -> (CubeTensor<R>, Option<[CubeTensor<R>; 2]>) {
        let State {
            x,
            weight,
            bias_type,
            rows,
            onto,
        } = state;
        let (width, weight_type) = (elements(&weight), weight.dtype);
        let count = elements(&x) / width;
        let (size, client) = (vector(width), x.client.clone());
        let cube = Cube::of_rows(&client, width / size);
        let dx = empty(&x, shape(&x), x.dtype);
        let groups = count.min(SHARES);
        let shares = empty(&x, &[groups, 2 * width], DType::F32);
        let adds = onto.is_some();
        // Without a gradient to add to something must stand in its place.
        let onto = onto.unwrap_or_else(|| dy.clone());
        // SAFETY: as forward; there is a share for each cube.
        #[allow(unsafe_code)]
        unsafe {
            norm_backward::launch_unchecked::<R>(
                &client,
                cubes(groups),
                cube.dim(),
                size,
                x.clone().into_array_arg(),
                dy.into_array_arg(),
                cast(weight, DType::F32).into_array_arg(),
                rows.into_array_arg(),
                onto.into_array_arg(),
                dx.clone().into_array_arg(),
                shares.clone().into_array_arg(),
                1.0 / width as f32,
                centred,
                adds,
                (width / size).div_ceil(cube.units as usize),
                cube,
                storage(x.dtype),
            );
        }
        let sums = weights.then(|| {
            let [dw, db] = sums_of_rows(shares);
            [cast(dw, weight_type), cast(db, bias_type)]
        });
        (dx, sums)
    }
}

/// Keeps a gradient of x for the way back, where it is like what will be added to it.
fn keep<R: CubeRuntime>(state: &mut State<R>, gradient: CubeTensor<R>) -> Option<CubeTensor<R>> {
    if gradient.dtype != state.x.dtype || shape(&gradient) != shape(&state.x) {
        return Some(gradient);
    }
    state.onto = Some(contiguous(gradient));
    None
}

impl<R: CubeRuntime> Kernel<R, 3> for Norm {
    type State = State<R>;

    const ADDS: bool = true;

    fn takes(&self, [x, weight, bias]: &[CubeTensor<R>; 3]) -> bool {
        Self::fits(x, weight) && shape(bias) == shape(weight)
    }

    fn forward(&self, [x, weight, bias]: [CubeTensor<R>; 3]) -> (CubeTensor<R>, State<R>) {
        self.run(x, weight, Some(bias))
    }

    fn onto(state: &mut State<R>, gradient: CubeTensor<R>) -> Option<CubeTensor<R>> {
        keep(state, gradient)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor<R>>; 3] {
        let (dx, sums) = Self::back(state, dy, true, wanted[1] || wanted[2]);
        let [dw, db] = sums.map_or([None, None], |sums| sums.map(Some));
        [
            wanted[0].then_some(dx),
            dw.filter(|_| wanted[1]),
            db.filter(|_| wanted[2]),
        ]
    }
}

impl<R: CubeRuntime> Kernel<R, 2> for Norm {
    type State = State<R>;

    const ADDS: bool = true;

    fn takes(&self, [x, weight]: &[CubeTensor<R>; 2]) -> bool {
        Self::fits(x, weight)
    }

    fn forward(&self, [x, weight]: [CubeTensor<R>; 2]) -> (CubeTensor<R>, State<R>) {
        self.run(x, weight, None)
    }

    fn onto(state: &mut State<R>, gradient: CubeTensor<R>) -> Option<CubeTensor<R>> {
        keep(state, gradient)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 2],
    ) -> [Option<CubeTensor<R>>; 2] {
        let (dx, sums) = Self::back(state, dy, false, wanted[1]);
        [wanted[0].then_some(dx), sums.map(|[dw, _]| dw)]
    }
}
