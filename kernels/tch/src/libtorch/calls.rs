//! `calls.cpp` in Rust.

use super::layer_norm::State;
use kernels::AdamW;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use tch::kind::Element;
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn clip_burn_layer_norm_backward(
        made: *mut *mut C_tensor,
        given: *const *const C_tensor,
        wanted: *const bool,
    ) -> *const c_char;

    fn clip_burn_adamw(
        made: *mut *mut C_tensor,
        given: *const *const C_tensor,
        free: *const bool,
        count: usize,
        keep: f64,
        rate: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
    ) -> *const c_char;

    fn clip_burn_norm(
        made: *mut *mut C_tensor,
        given: *const *const C_tensor,
        count: usize,
    ) -> *const c_char;

    fn clip_burn_scale(
        given: *const *const C_tensor,
        count: usize,
        factor: *const C_tensor,
    ) -> *const c_char;

    fn clip_burn_upload(
        made: *mut *mut C_tensor,
        numbers: *const c_void,
        sizes: *const i64,
        rank: usize,
        kind: c_int,
        gpu: c_int,
    ) -> *const c_char;

    fn clip_burn_gradients(
        made: *mut *mut C_tensor,
        output: *const C_tensor,
        dy: *const C_tensor,
        leaves: *const *const C_tensor,
        count: usize,
    ) -> *const c_char;
}

/// Gradients of input, weight and bias of a layer norm, those that are wanted.
pub(super) fn layer_norm_backward(
    dy: &Tensor,
    state: &State,
    wanted: [bool; 3],
) -> [Option<Tensor>; 3] {
    let State {
        x,
        weight,
        bias,
        mean,
        scale,
    } = state;
    let kept = [x, weight, bias, mean, scale].map(|tensor| tensor.tensor.as_ptr());
    let given = [dy.as_ptr(), kept[0], kept[1], kept[2], kept[3], kept[4]];
    let mut made = [null_mut(); 3];
    // SAFETY: the tensors live until the call returns; it reads six and three flags, and writes three.
    #[allow(unsafe_code)]
    let said = unsafe {
        clip_burn_layer_norm_backward(made.as_mut_ptr(), given.as_ptr(), wanted.as_ptr())
    };
    check(said);
    made.map(owned)
}

/// Weights and both moments after updates with the same numbers, from weights, gradient and both moments of each. What is `free`
/// may be written over.
pub(super) fn adamw(
    numbers: AdamW,
    tensors: &[[&Tensor; 4]],
    free: &[[bool; 4]],
) -> Vec<[Tensor; 3]> {
    let AdamW {
        beta1,
        beta2,
        eps,
        step_size,
        root,
        keep,
    } = numbers;
    assert_eq!(tensors.len(), free.len());
    let given: Vec<_> = tensors.iter().flatten().map(|one| one.as_ptr()).collect();
    let (rate, eps, count) = (step_size * root, eps * root, tensors.len());
    let mut made = vec![null_mut(); 3 * count];
    // SAFETY: the tensors live until the call returns; of each update it reads four and four flags, and writes three.
    #[allow(unsafe_code)]
    let said = unsafe {
        let (made, given, free) = (made.as_mut_ptr(), given.as_ptr().cast(), free.as_ptr());
        clip_burn_adamw(
            made,
            given,
            free.cast(),
            count,
            keep,
            rate,
            beta1,
            beta2,
            eps,
        )
    };
    check(said);
    let mut made = made
        .into_iter()
        .map(|pointer| owned(pointer).expect("all three"));
    let mut three = || std::array::from_fn(|_| made.next().expect("three of each"));
    (0..count).map(|_| three()).collect()
}

/// The norm of all tensors together, `[1]`.
pub(super) fn norm<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Tensor {
    let given: Vec<_> = tensors.map(Tensor::as_ptr).collect();
    let mut made = null_mut();
    // SAFETY: the tensors live until the call returns; it reads as many as it is told, and writes one.
    #[allow(unsafe_code)]
    let said = unsafe { clip_burn_norm(&mut made, given.as_ptr().cast(), given.len()) };
    check(said);
    owned(made).expect("one")
}

/// Each tensor times a factor of one element, in its place.
pub(super) fn scale<'a>(tensors: impl Iterator<Item = &'a Tensor>, factor: &Tensor) {
    let given: Vec<_> = tensors.map(Tensor::as_ptr).collect();
    // SAFETY: the tensors live until the call returns; it reads as many as it is told.
    #[allow(unsafe_code)]
    let said = unsafe { clip_burn_scale(given.as_ptr().cast(), given.len(), factor.as_ptr()) };
    check(said);
}

/// A tensor of numbers of the host. Nobody waits for the way to a GPU, nor for what the GPU had to do before.
///
/// # Panics
///
/// Panics if there are not as many numbers as the sizes say.
pub(super) fn upload<T: Element>(numbers: &[T], sizes: &[i64], device: Device) -> Tensor {
    assert_eq!(
        numbers.len() as i64,
        sizes.iter().product::<i64>(),
        "{sizes:?}"
    );
    let gpu = match device {
        Device::Cuda(index) => index as c_int,
        _ => -1,
    };
    let mut made = null_mut();
    // SAFETY: numbers and sizes live until the call returns, which copies as many as it is told, of their own kind.
    #[allow(unsafe_code)]
    let said = unsafe {
        let (kind, rank) = (scalar_type(T::KIND), sizes.len());
        clip_burn_upload(
            &mut made,
            numbers.as_ptr().cast(),
            sizes.as_ptr(),
            rank,
            kind,
            gpu,
        )
    };
    check(said);
    owned(made).expect("one")
}

/// LibTorch's number of a kind that comes from the host.
fn scalar_type(kind: Kind) -> c_int {
    match kind {
        Kind::Uint8 => 0,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Float => 6,
        other => unreachable!("nothing of kind {other:?} is uploaded"),
    }
}

/// Gradients of the leaves that an output was recorded from, by the output's.
pub(super) fn gradients<const N: usize>(
    output: &Tensor,
    dy: &Tensor,
    leaves: [&Tensor; N],
) -> [Tensor; N] {
    let leaves = leaves.map(Tensor::as_ptr);
    let mut made = [null_mut(); N];
    // SAFETY: the tensors live until the call returns; it reads and writes as many as it is told.
    #[allow(unsafe_code)]
    let said = unsafe {
        let (output, dy) = (output.as_ptr(), dy.as_ptr());
        clip_burn_gradients(made.as_mut_ptr(), output, dy, leaves.as_ptr(), N)
    };
    check(said);
    made.map(|pointer| owned(pointer).expect("of each leaf"))
}

/// # Panics
///
/// With what LibTorch says went wrong, as the crate tch does.
fn check(said: *const c_char) {
    if !said.is_null() {
        // SAFETY: a sentence that ends in zero, and is there until this thread's next call.
        #[allow(unsafe_code)]
        let said = unsafe { CStr::from_ptr(said) };
        panic!("LibTorch: {}", said.to_string_lossy());
    }
}

fn owned(pointer: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: made for the caller, once.
    #[allow(unsafe_code)]
    let tensor = || unsafe { Tensor::from_ptr(pointer) };
    (!pointer.is_null()).then(tensor)
}
