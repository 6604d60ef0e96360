//! Norm, scaling and AdamW over many tensors in a few launches: the models have hundreds of parameters, most of them small.

use crate::cube::{Cube, UNITS, cubes, lanes, over_cube, vector};
use crate::tensor::{contiguous, elements, empty, owned, shape};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::ComputeClient;
use cubecl::prelude::*;
use kernels::{AdamW, Updates};

/// Most tensors of one launch. More would save little and make the source of the kernel long.
const TENSORS: usize = 64;
/// Cubes that share the elements of all tensors of a launch.
const CUBES: usize = 1024;
/// Cubes of the norm, each of which leaves one sum.
const SUMS: usize = 256;

fn usable<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    tensor.dtype == DType::F32 && (1..crate::MOST).contains(&elements(tensor))
}

/// How many tensors go into a launch where the device binds `others` more, and `each` for every tensor.
fn tensors_of_launch<R: CubeRuntime>(
    client: &ComputeClient<R>,
    each: usize,
    others: usize,
) -> usize {
    let bindings = client.properties().hardware.max_bindings as usize;
    let room = bindings.saturating_sub(others) / each;
    room.clamp(1, TENSORS / each)
}

fn cubes_of<R: CubeRuntime>(tensors: &[CubeTensor<R>], vector: usize) -> CubeCount {
    let largest = tensors.iter().map(elements).max().unwrap_or(1);
    let wanted = (largest / vector).div_ceil(UNITS as usize);
    cubes(wanted.min(CUBES))
}

/// Indices of the tensors, those together that are read by vectors of the same size.
fn by_vector<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> Vec<(usize, Vec<usize>)> {
    let mut groups = Vec::new();
    for size in [4, 2, 1] {
        let of_size = (0..tensors.len()).filter(|i| vector(elements(&tensors[*i])) == size);
        let of_size: Vec<usize> = of_size.collect();
        if !of_size.is_empty() {
            groups.push((size, of_size));
        }
    }
    groups
}

#[cube(launch_unchecked)]
fn sums_of_squares<N: Size>(
    tensors: &Sequence<Array<Vector<f32, N>>>,
    sums: &mut Array<f32>,
    first: u32,
    #[comptime] cube: Cube,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let mut sum = Vector::<f32, N>::new(f32::new(0.0));
    #[unroll]
    for part in 0..comptime!(tensors.len()) {
        let tensor = tensors.index(part);
        let mut at = ABSOLUTE_POS;
        while at < tensor.len() {
            let x = tensor[at];
            sum += x * x;
            at += stride;
        }
    }
    let sum = over_cube(lanes::<N>(sum), &mut shared, cube, false);
    if UNIT_POS == 0 {
        sums[first as usize + CUBE_POS] = sum;
    }
}

#[cube(launch_unchecked)]
fn root_of_sum(sums: &Array<f32>, root: &mut Array<f32>, #[comptime] cube: Cube) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let mut sum = f32::new(0.0);
    let mut at = UNIT_POS as usize;
    while at < sums.len() {
        sum += sums[at];
        at += comptime!(cube.units as usize);
    }
    let sum = over_cube(sum, &mut shared, cube, false);
    if UNIT_POS == 0 {
        root[0] = sum.sqrt();
    }
}

/// The norm of all tensors together, `[1]`.
pub(crate) fn norm<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> Option<CubeTensor<R>> {
    if tensors.is_empty() || !tensors.iter().all(usable) {
        return None;
    }
    let tensors: Vec<_> = tensors.into_iter().map(contiguous).collect();
    let client = tensors[0].client.clone();
    let most = tensors_of_launch(&client, 1, 1);
    let launches: Vec<_> = by_vector(&tensors)
        .into_iter()
        .flat_map(|(size, group)| {
            let parts: Vec<_> = group.chunks(most).map(<[usize]>::to_vec).collect();
            parts.into_iter().map(move |part| (size, part))
        })
        .collect();
    let sums = empty(&tensors[0], &[launches.len() * SUMS], DType::F32);
    let cube = Cube::of_rows(&client, UNITS as usize);
    for (index, (size, part)) in launches.into_iter().enumerate() {
        let arguments = part.iter().map(|i| tensors[*i].clone().into_array_arg());
        // SAFETY: reads are within each array; there are SUMS sums for each launch.
        #[allow(unsafe_code)]
        unsafe {
            sums_of_squares::launch_unchecked::<R>(
                &client,
                cubes(SUMS),
                cube.dim(),
                size,
                arguments.collect(),
                sums.clone().into_array_arg(),
                (index * SUMS) as u32,
                cube,
            );
        }
    }
    let root = empty(&tensors[0], &[1], DType::F32);
    // SAFETY: reads are within the array, and one value is written.
    #[allow(unsafe_code)]
    unsafe {
        root_of_sum::launch_unchecked::<R>(
            &client,
            cubes(1),
            cube.dim(),
            sums.into_array_arg(),
            root.clone().into_array_arg(),
            cube,
        );
    }
    Some(root)
}

#[cube(launch_unchecked)]
fn scaled_gradients<N: Size>(factor: &Array<f32>, tensors: &mut Sequence<Array<Vector<f32, N>>>) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let factor = Vector::<f32, N>::new(factor[0]);
    #[unroll]
    for part in 0..comptime!(tensors.len()) {
        scale_one::<N>(tensors.index_mut(part), factor, stride);
    }
}

#[cube]
fn scale_one<N: Size>(tensor: &mut Array<Vector<f32, N>>, factor: Vector<f32, N>, stride: usize) {
    let mut at = ABSOLUTE_POS;
    while at < tensor.len() {
        tensor[at] = tensor[at] * factor;
        at += stride;
    }
}

/// All tensors times a factor, `[1]`; given back if they cannot be worked on.
pub(crate) fn scale<R: CubeRuntime>(
    tensors: Vec<CubeTensor<R>>,
    factor: CubeTensor<R>,
) -> Result<Vec<CubeTensor<R>>, Vec<CubeTensor<R>>> {
    let one = factor.dtype == DType::F32 && elements(&factor) == 1;
    if !one || !tensors.iter().all(usable) {
        return Err(tensors);
    }
    let tensors: Vec<_> = tensors.into_iter().map(owned).collect();
    let client = factor.client.clone();
    let most = tensors_of_launch(&client, 1, 1);
    for (size, group) in by_vector(&tensors) {
        for part in group.chunks(most) {
            let part: Vec<_> = part.iter().map(|i| tensors[*i].clone()).collect();
            let count = cubes_of(&part, size);
            let arguments = part.into_iter().map(|tensor| tensor.into_array_arg());
            // SAFETY: reads and writes are within each array, which nobody else has.
            #[allow(unsafe_code)]
            unsafe {
                scaled_gradients::launch_unchecked::<R>(
                    &client,
                    count,
                    CubeDim::new_1d(UNITS),
                    size,
                    factor.clone().into_array_arg(),
                    arguments.collect(),
                );
            }
        }
    }
    Ok(tensors)
}

/// Numbers of [`AdamW`] on the device.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Numbers {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    step_size: f32,
    root: f32,
    keep: f32,
}

/// The same on the host; updates with the same ones share a launch.
fn numbers(of: &AdamW) -> [f32; 8] {
    let (rest1, rest2) = (1.0 - of.beta1, 1.0 - of.beta2);
    [
        of.beta1,
        rest1,
        of.beta2,
        rest2,
        of.eps,
        of.step_size,
        of.root,
        of.keep,
    ]
    .map(|x| x as f32)
}

#[cube(launch_unchecked)]
fn adamw_updates<N: Size>(
    gradients: &Sequence<Array<Vector<f32, N>>>,
    weights: &mut Sequence<Array<Vector<f32, N>>>,
    exp_avgs: &mut Sequence<Array<Vector<f32, N>>>,
    exp_avg_sqs: &mut Sequence<Array<Vector<f32, N>>>,
    numbers: &Numbers,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    #[unroll]
    for part in 0..comptime!(gradients.len()) {
        update::<N>(
            gradients.index(part),
            weights.index_mut(part),
            exp_avgs.index_mut(part),
            exp_avg_sqs.index_mut(part),
            numbers,
            stride,
        );
    }
}

#[cube]
fn update<N: Size>(
    gradient: &Array<Vector<f32, N>>,
    weights: &mut Array<Vector<f32, N>>,
    exp_avg: &mut Array<Vector<f32, N>>,
    exp_avg_sq: &mut Array<Vector<f32, N>>,
    numbers: &Numbers,
    stride: usize,
) {
    let mut at = ABSOLUTE_POS;
    while at < gradient.len() {
        let g = gradient[at];
        let m = exp_avg[at] * Vector::new(numbers.beta1) + g * Vector::new(numbers.rest1);
        let v = exp_avg_sq[at] * Vector::new(numbers.beta2) + g * g * Vector::new(numbers.rest2);
        exp_avg[at] = m;
        exp_avg_sq[at] = v;
        let below = Vector::sqrt(v) / Vector::new(numbers.root) + Vector::new(numbers.eps);
        let kept = weights[at] * Vector::new(numbers.keep);
        weights[at] = kept - m * Vector::new(numbers.step_size) / below;
        at += stride;
    }
}

/// Updates that can share a launch.
struct Group {
    numbers: [f32; 8],
    /// Elements that are read at once.
    size: usize,
    /// Indices of the updates.
    members: Vec<usize>,
}

/// Weights and moments after the updates, where they lay; given back if they cannot be worked on.
pub(crate) fn adamw<R: CubeRuntime>(
    updates: Updates<CubeTensor<R>>,
) -> Result<Vec<[CubeTensor<R>; 3]>, Updates<CubeTensor<R>>> {
    let fits = |(_, tensors): &(AdamW, [CubeTensor<R>; 4])| {
        let alike = |tensor| usable(tensor) && shape(tensor) == shape(&tensors[0]);
        tensors.iter().all(alike)
    };
    if !updates.iter().all(fits) {
        return Err(updates);
    }
    let (mut gradients, mut made) = (Vec::new(), Vec::new());
    let mut groups: Vec<Group> = Vec::new();
    for (index, (of, tensors)) in updates.into_iter().enumerate() {
        let [weights, gradient, exp_avg, exp_avg_sq] = tensors;
        let (numbers, size) = (numbers(&of), vector(elements(&gradient)));
        let alike = |group: &&mut Group| group.numbers == numbers && group.size == size;
        match groups.iter_mut().find(alike) {
            Some(group) => group.members.push(index),
            None => groups.push(Group {
                numbers,
                size,
                members: vec![index],
            }),
        }
        gradients.push(contiguous(gradient));
        made.push([weights, exp_avg, exp_avg_sq].map(owned));
    }
    for group in groups {
        let client = gradients[group.members[0]].client.clone();
        for part in group.members.chunks(tensors_of_launch(&client, 4, 0)) {
            launch(&client, group.numbers, group.size, part, &gradients, &made);
        }
    }
    Ok(made)
}

fn launch<R: CubeRuntime>(
    client: &ComputeClient<R>,
    numbers: [f32; 8],
    size: usize,
    part: &[usize],
    gradients: &[CubeTensor<R>],
    made: &[[CubeTensor<R>; 3]],
) {
    let [beta1, rest1, beta2, rest2, eps, step_size, root, keep] = numbers;
    let numbers = NumbersLaunch::new(beta1, rest1, beta2, rest2, eps, step_size, root, keep);
    let gradients: Vec<_> = part.iter().map(|i| gradients[*i].clone()).collect();
    let count = cubes_of(&gradients, size);
    let argument = |tensor: CubeTensor<R>| tensor.into_array_arg();
    let of = |which: usize| part.iter().map(move |i| argument(made[*i][which].clone()));
    // SAFETY: the four arrays of an update have as many elements, and no unit goes beyond them; nobody else has those that are
    // written.
    #[allow(unsafe_code)]
    unsafe {
        adamw_updates::launch_unchecked::<R>(
            client,
            count,
            CubeDim::new_1d(UNITS),
            size,
            gradients.into_iter().map(argument).collect(),
            of(0).collect(),
            of(1).collect(),
            of(2).collect(),
            numbers,
        );
    }
}
