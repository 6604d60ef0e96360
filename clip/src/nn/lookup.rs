use burn::prelude::*;

/// How many parts of the ids are taken at once where it pays; each needs a gradient of the whole table for a moment.
const PARTS: usize = 8;

/// Rows of a table by their index.
///
/// # Shapes
///
/// - table: `[rows, width]`
/// - ids: `[n]`
/// - output: `[n, width]`
pub fn lookup<B: Backend>(table: Tensor<B, 2>, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
    let device = table.device();
    if !B::ad_enabled(&device) {
        return table.select(0, ids);
    }
    if let Some(rows) = kernels::embedding(&table, &ids) {
        return rows;
    }
    // On GPUs burn 0.21 adds up the gradients of a column in one thread, id after id, and a batch of texts has tens of
    // thousands of them. In parts the threads multiply. With `fusion`, that is: without it there is a kernel.
    let size = 4 * table.dims().iter().product::<usize>();
    let most = PARTS.min(room(&B::name(&device)) / size.max(1));
    match (2..=most)
        .rev()
        .find(|parts| ids.dims()[0].is_multiple_of(*parts))
    {
        Some(parts) => in_parts(table, ids, parts),
        None => table.select(0, ids),
    }
}

/// Bytes that the gradients of all parts together may take.
fn room(backend: &str) -> usize {
    match backend {
        name if name.contains("cuda") => 1 << 30,
        name if name.contains("cubecl") => 128 << 20, // what WebGPU promises for one buffer
        _ => 0,
    }
}

/// The same by a gather from copies of the table that exist in name only; their gradients are added up.
fn in_parts<B: Backend>(table: Tensor<B, 2>, ids: Tensor<B, 1, Int>, parts: usize) -> Tensor<B, 2> {
    let ([rows, width], [n]) = (table.dims(), ids.dims());
    let ids = ids
        .reshape([parts, n / parts, 1])
        .expand([parts, n / parts, width]);
    let copies = table.unsqueeze::<3>().expand([parts, rows, width]);
    copies.gather(1, ids).reshape([n, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Autodiff;
    use burn_flex::Flex;

    #[test]
    fn parts_give_the_rows_and_gradients_of_the_whole() {
        let device = Default::default();
        let values: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let ids = [4, 0, 2, 2, 2, 1]; // 3 is never used, 2 in both halves
        let run = |parts| {
            let data = TensorData::new(values.clone(), [5, 3]);
            let table = Tensor::<Autodiff<Flex>, 2>::from_data(data, &device).require_grad();
            let ids = Tensor::from_data(ids, &device);
            let rows = match parts {
                1 => lookup(table.clone(), ids),
                parts => in_parts(table.clone(), ids, parts),
            };
            let weights = Tensor::arange(0..18, &device).float().reshape([6, 3]);
            let grads = (rows.clone() * weights).sum().backward();
            let grad = table.grad(&grads).unwrap();
            (rows.into_data(), grad.into_data())
        };
        let whole = run(1);
        assert_eq!(run(2), whole);
        assert_eq!(run(3), whole);
    }
}
