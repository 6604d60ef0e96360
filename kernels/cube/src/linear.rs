//! A linear layer: burn's product, then the bias, in place or on the way through an activation. Gradients of weight and bias are
//! in their own types at once.

use crate::Kernel;
use crate::activate::{slope, value};
use crate::cube::{elementwise, storage, vector};
use crate::sum::sum_of_rows;
use crate::tensor::{contiguous, elements, empty, product, shape, transposed};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use kernels::Activation;

#[derive(Debug)]
pub(crate) struct Linear {
    /// What is made of the output, if anything.
    pub activation: Option<Activation>,
}

/// What a linear layer gives, added to the last input in the pass of the bias.
#[derive(Debug)]
pub(crate) struct LinearAdd;

#[derive(Clone, Debug)]
pub(crate) struct State<R: CubeRuntime> {
    x: CubeTensor<R>,
    /// In the type of `x`.
    weight: CubeTensor<R>,
    weight_type: DType,
    bias_type: DType,
    /// The product, and the bias that an activation takes with it.
    before: Option<[CubeTensor<R>; 2]>,
}

#[cube(launch_unchecked)]
fn add_bias<F: Float, B: Float, N: Size>(
    bias: &Array<Vector<B, N>>,
    y: &mut Array<Vector<F, N>>,
    #[define(F, B)] _dtypes: [StorageType; 2],
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let width = bias.len();
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let bias = Vector::<f32, N>::cast_from(bias[at % width]);
        y[at] = Vector::cast_from(Vector::<f32, N>::cast_from(y[at]) + bias);
        at += stride;
    }
}

#[cube(launch_unchecked)]
fn add_bias_and_tensor<F: Float, B: Float, N: Size>(
    bias: &Array<Vector<B, N>>,
    beside: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    #[define(F, B)] _dtypes: [StorageType; 2],
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let width = bias.len();
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let bias = Vector::<f32, N>::cast_from(bias[at % width]);
        let branch = Vector::<f32, N>::cast_from(y[at]) + bias;
        y[at] = Vector::cast_from(Vector::<f32, N>::cast_from(beside[at]) + branch);
        at += stride;
    }
}

#[cube(launch_unchecked)]
fn activate<F: Float, B: Float, N: Size>(
    product: &Array<Vector<F, N>>,
    bias: &Array<Vector<B, N>>,
    y: &mut Array<Vector<F, N>>,
    #[comptime] kind: Activation,
    #[define(F, B)] _dtypes: [StorageType; 2],
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let width = bias.len();
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let bias = Vector::<f32, N>::cast_from(bias[at % width]);
        let x = Vector::<f32, N>::cast_from(product[at]) + bias;
        y[at] = Vector::cast_from(value::<N>(x, kind));
        at += stride;
    }
}

/// Units of a cube on the way back: so many columns, of as many elements as are read at once, and strips that share their rows.
const COLUMNS: u32 = 32;
const STRIPS: u32 = 8;
/// Rows of a unit, and most cubes that share the rows: their sums are added up in one launch.
const EACH: usize = 32;
const SHARES: usize = 1024;

/// Gradient of what the activation is taken of, and its sum over the rows of each cube: a share of the bias's gradient.
#[cube(launch_unchecked)]
fn activate_backward<F: Float, B: Float, N: Size>(
    product: &Array<Vector<F, N>>,
    bias: &Array<Vector<B, N>>,
    dy: &Array<Vector<F, N>>,
    dx: &mut Array<Vector<F, N>>,
    shares: &mut Array<Vector<f32, N>>,
    share: u32,
    #[comptime] kind: Activation,
    #[comptime] strips: u32,
    #[define(F, B)] _dtypes: [StorageType; 2],
) {
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!((strips * COLUMNS) as usize));
    let unit = UNIT_POS as usize;
    let width = bias.len();
    let rows = dx.len() / width;
    let column = (CUBE_POS_X * COLUMNS + UNIT_POS_X) as usize;
    let mut sum = Vector::<f32, N>::new(f32::new(0.0));
    if column < width {
        let bias = Vector::<f32, N>::cast_from(bias[column]);
        let mut row = (CUBE_POS_Y * share + UNIT_POS_Y) as usize;
        let mut end = (CUBE_POS_Y * share + share) as usize;
        if end > rows {
            end = rows;
        }
        while row < end {
            let at = row * width + column;
            let x = Vector::<f32, N>::cast_from(product[at]) + bias;
            let gradient = slope::<N>(x, kind) * Vector::cast_from(dy[at]);
            dx[at] = Vector::cast_from(gradient);
            sum += gradient;
            row += comptime!(strips as usize);
        }
    }
    shared[unit] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && column < width {
        #[unroll]
        for strip in 1..comptime!(strips as usize) {
            sum += shared[unit + comptime!(strip * COLUMNS as usize)];
        }
        shares[CUBE_POS_Y as usize * width + column] = sum;
    }
}

/// The product plus the bias, and plus another tensor, in the product's place; nobody else has that yet.
fn biased<R: CubeRuntime>(
    product: CubeTensor<R>,
    bias: CubeTensor<R>,
    beside: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let size = vector(elements(&bias));
    let (count, dim) = elementwise(elements(&product) / size);
    let client = product.client.clone();
    let types = [product.dtype, bias.dtype].map(storage);
    let (bias, y) = (bias.into_array_arg(), product.clone().into_array_arg());
    // SAFETY: the product has rows of the bias's width, and the other tensor as many.
    #[allow(unsafe_code)]
    unsafe {
        match beside {
            None => add_bias::launch_unchecked::<R>(&client, count, dim, size, bias, y, types),
            Some(beside) => {
                let beside = beside.into_array_arg();
                add_bias_and_tensor::launch_unchecked::<R>(
                    &client, count, dim, size, bias, beside, y, types,
                )
            }
        }
    }
    product
}

/// The activation of product and bias.
fn activated<R: CubeRuntime>(
    kind: Activation,
    [product, bias]: [CubeTensor<R>; 2],
) -> CubeTensor<R> {
    let y = empty(&product, shape(&product), product.dtype);
    let size = vector(elements(&bias));
    let (count, dim) = elementwise(elements(&product) / size);
    let client = product.client.clone();
    let types = [product.dtype, bias.dtype].map(storage);
    // SAFETY: the product has rows of the bias's width, and the output as many.
    #[allow(unsafe_code)]
    unsafe {
        activate::launch_unchecked::<R>(
            &client,
            count,
            dim,
            size,
            product.into_array_arg(),
            bias.into_array_arg(),
            y.clone().into_array_arg(),
            kind,
            types,
        );
    }
    y
}

/// The gradient of what [`activated`] takes the activation of, and rows whose sum is that of the bias.
fn activated_backward<R: CubeRuntime>(
    kind: Activation,
    [product, bias]: [CubeTensor<R>; 2],
    dy: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let width = elements(&bias);
    let rows = elements(&product) / width;
    let size = vector(width);
    let client = product.client.clone();
    let most = client.properties().hardware.max_units_per_cube;
    let strips = (most / COLUMNS).clamp(1, STRIPS);
    let groups = rows.div_ceil(strips as usize * EACH).min(SHARES);
    let dx = empty(&product, shape(&product), product.dtype);
    let shares = empty(&product, &[groups, width], DType::F32);
    let types = [product.dtype, bias.dtype].map(storage);
    let columns = (width / size).div_ceil(COLUMNS as usize);
    // SAFETY: as forward; units beyond the last column or row neither read nor write, and there is a share for each row of cubes.
    #[allow(unsafe_code)]
    unsafe {
        activate_backward::launch_unchecked::<R>(
            &client,
            CubeCount::Static(columns as u32, groups as u32, 1),
            CubeDim::new_2d(COLUMNS, strips),
            size,
            product.into_array_arg(),
            bias.into_array_arg(),
            dy.into_array_arg(),
            dx.clone().into_array_arg(),
            shares.clone().into_array_arg(),
            rows.div_ceil(groups) as u32,
            kind,
            strips,
            types,
        );
    }
    [dx, shares]
}

/// Rows and columns of the output, if x, weight and bias go together and it is not too large.
fn output<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    bias: &CubeTensor<R>,
) -> Option<[usize; 2]> {
    let (&[rows, width], &[outputs, inputs], &[biases]) = (shape(x), shape(weight), shape(bias))
    else {
        return None;
    };
    let fits = width == inputs && biases == outputs && rows * outputs < crate::MOST;
    fits.then_some([rows, outputs])
}

impl Linear {
    fn run<R: CubeRuntime>(
        &self,
        [x, weight, bias]: [CubeTensor<R>; 3],
        beside: Option<CubeTensor<R>>,
    ) -> (CubeTensor<R>, State<R>) {
        let (weight_type, bias_type) = (weight.dtype, bias.dtype);
        let weight = cast(weight, x.dtype);
        let out = contiguous(product(x.clone(), transposed(weight.clone()), x.dtype));
        let (y, before) = match self.activation {
            None => (biased(out, bias, beside), None),
            Some(kind) => {
                let before = [out, bias];
                (activated(kind, before.clone()), Some(before))
            }
        };
        let state = State {
            x,
            weight,
            weight_type,
            bias_type,
            before,
        };
        (y, state)
    }

    fn back<R: CubeRuntime>(
        &self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor<R>>; 3] {
        let State {
            x,
            weight,
            weight_type,
            bias_type,
            before,
        } = state;
        let (dy, of_bias) = match self.activation.zip(before) {
            Some((kind, before)) => {
                let [dy, shares] = activated_backward(kind, before, dy);
                (dy, Some(shares))
            }
            None => (dy, None),
        };
        [
            wanted[0].then(|| product(dy.clone(), weight, x.dtype)),
            wanted[1].then(|| product(transposed(dy.clone()), x, weight_type)),
            wanted[2].then(|| cast(sum_of_rows(of_bias.unwrap_or(dy)), bias_type)),
        ]
    }
}

impl<R: CubeRuntime> Kernel<R, 3> for Linear {
    type State = State<R>;

    fn takes(&self, [x, weight, bias]: &[CubeTensor<R>; 3]) -> bool {
        output(x, weight, bias).is_some()
    }

    fn forward(&self, inputs: [CubeTensor<R>; 3]) -> (CubeTensor<R>, State<R>) {
        self.run(inputs, None)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor<R>>; 3] {
        self.back(state, dy, wanted)
    }
}

impl<R: CubeRuntime> Kernel<R, 4> for LinearAdd {
    type State = State<R>;

    fn takes(&self, [x, weight, bias, beside]: &[CubeTensor<R>; 4]) -> bool {
        let output = output(x, weight, bias);
        output.is_some_and(|output| shape(beside) == output) && beside.dtype == x.dtype
    }

    fn forward(&self, [x, weight, bias, beside]: [CubeTensor<R>; 4]) -> (CubeTensor<R>, State<R>) {
        Linear { activation: None }.run([x, weight, bias], Some(beside))
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 4],
    ) -> [Option<CubeTensor<R>>; 4] {
        let layer = Linear { activation: None };
        let [dx, dw, db] = layer.back(state, dy.clone(), [wanted[0], wanted[1], wanted[2]]);
        [dx, dw, db, wanted[3].then_some(dy)]
    }
}
