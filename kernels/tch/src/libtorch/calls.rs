//! `calls.cpp` in Rust.

use super::layer_norm::State;
use kernels::AdamW;
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use tch::Tensor;
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
        keep: f64,
        rate: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
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

/// Weights and both moments after an update, from weights, gradient and both moments.
pub(super) fn adamw(tensors: [&Tensor; 4], numbers: AdamW) -> [Tensor; 3] {
    let AdamW {
        beta1,
        beta2,
        eps,
        step_size,
        root,
        keep,
    } = numbers;
    let given = tensors.map(Tensor::as_ptr);
    let (mut made, rate, eps) = ([null_mut(); 3], step_size * root, eps * root);
    // SAFETY: the tensors live until the call returns; it reads four and writes three.
    #[allow(unsafe_code)]
    let said = unsafe {
        let (made, given) = (made.as_mut_ptr(), given.as_ptr());
        clip_burn_adamw(made, given, keep, rate, beta1, beta2, eps)
    };
    check(said);
    made.map(|pointer| owned(pointer).expect("all three"))
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
