//! Sums of rows, column by column.

use crate::cube::storage;
use crate::tensor::{empty, shape};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::ComputeClient;
use cubecl::prelude::*;

/// Columns of a cube.
const COLUMNS: u32 = 32;
/// Rows that a unit adds up, where there are many, and the most that it does.
const EACH: usize = 32;
const MOST: usize = 128;

/// Units of a cube that share the rows of a column: as many as the device has.
fn strips<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    let units = client.properties().hardware.max_units_per_cube;
    (units / COLUMNS).clamp(1, 32)
}

#[cube(launch_unchecked)]
fn column_sums<F: Float>(
    rows: &Array<F>,
    sums: &mut Sequence<Array<f32>>,
    count: u32,
    width: u32,
    share: u32,
    #[comptime] strips: u32,
    #[define(F)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((strips * COLUMNS) as usize));
    let unit = UNIT_POS as usize;
    let column = CUBE_POS_X * COLUMNS + UNIT_POS_X;
    let mut sum = f32::new(0.0);
    if column < width {
        let mut row = CUBE_POS_Y * share + UNIT_POS_Y;
        let mut end = CUBE_POS_Y * share + share;
        if end > count {
            end = count;
        }
        while row < end {
            sum += f32::cast_from(rows[row as usize * width as usize + column as usize]);
            row += strips;
        }
    }
    shared[unit] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && column < width {
        #[unroll]
        for strip in 1..comptime!(strips as usize) {
            sum += shared[unit + comptime!(strip * COLUMNS as usize)];
        }
        let each = width / comptime!(sums.len() as u32);
        #[unroll]
        for part in 0..comptime!(sums.len()) {
            let first = each * comptime!(part as u32);
            if column >= first && column < first + each {
                let at = CUBE_POS_Y * each + column - first;
                set(sums.index_mut(part), at as usize, sum);
            }
        }
    }
}

#[cube]
fn set(array: &mut Array<f32>, at: usize, value: f32) {
    array[at] = value;
}

/// The sum of contiguous rows, `[width]` in f32.
pub(crate) fn sum_of_rows<R: CubeRuntime>(rows: CubeTensor<R>) -> CubeTensor<R> {
    let [sum] = sums_of_rows(rows);
    sum
}

/// The same in `N` tensors of equal width. `rows` is `[count, width]`, contiguous.
pub(crate) fn sums_of_rows<R: CubeRuntime, const N: usize>(
    rows: CubeTensor<R>,
) -> [CubeTensor<R>; N] {
    let (count, width) = (shape(&rows)[0], shape(&rows)[1]);
    let strips = strips(&rows.client) as usize;
    if count > strips * MOST {
        let shares = count.div_ceil(strips * EACH);
        let sums = empty(&rows, &[shares, width], DType::F32);
        launch(rows, shares, vec![sums.clone()]);
        return sums_of_rows(sums);
    }
    let sums = [(); N].map(|()| empty(&rows, &[width / N], DType::F32));
    launch(rows, 1, sums.to_vec());
    sums
}

fn launch<R: CubeRuntime>(rows: CubeTensor<R>, shares: usize, sums: Vec<CubeTensor<R>>) {
    let (count, width) = (shape(&rows)[0], shape(&rows)[1]);
    let (client, dtype) = (rows.client.clone(), rows.dtype);
    let strips = strips(&client);
    // SAFETY: units beyond the last column or row neither read nor write.
    #[allow(unsafe_code)]
    unsafe {
        column_sums::launch_unchecked::<R>(
            &client,
            CubeCount::Static((width as u32).div_ceil(COLUMNS), shares as u32, 1),
            CubeDim::new_2d(COLUMNS, strips),
            rows.into_array_arg(),
            sums.into_iter().map(|sum| sum.into_array_arg()).collect(),
            count as u32,
            width as u32,
            count.div_ceil(shares) as u32,
            strips,
            storage(dtype),
        );
    }
}
