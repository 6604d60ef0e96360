// Calls of LibTorch that the crate tch has no functions for. Tensors are its pointers, and those that are made are the
// caller's. What goes wrong comes back as a sentence, which lives until the thread's next call.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <string>
#include <vector>

namespace {

thread_local std::string what;

template <class Call> const char *attempt(Call call) {
    try {
        call();
        return nullptr;
    } catch (const c10::Error &error) {
        what = error.what_without_backtrace();
    } catch (const std::exception &error) {
        what = error.what();
    }
    return what.c_str();
}

std::vector<at::Tensor> list(const at::Tensor *const *given, size_t count) {
    std::vector<at::Tensor> all;
    for (size_t i = 0; i < count; i++) all.push_back(*given[i]);
    return all;
}

} // namespace

extern "C" {

// dx, dweight and dbias, each null if it is not wanted, from dy, x, weight, bias, mean and 1 / deviation.
const char *clip_burn_layer_norm_backward(at::Tensor **made, const at::Tensor *const *given, const bool *wanted) {
    return attempt([&] {
        const at::Tensor &dy = *given[0], &x = *given[1], &weight = *given[2], &bias = *given[3];
        auto [dx, dweight, dbias] = at::native_layer_norm_backward(
            dy, x, weight.sizes(), *given[4], *given[5], weight, bias, {wanted[0], wanted[1], wanted[2]});
        const at::Tensor gradients[] = {dx, dweight, dbias};
        for (int i = 0; i < 3; i++) made[i] = wanted[i] ? new at::Tensor(gradients[i]) : nullptr;
    });
}

// Weights and both moments after updates with the same numbers, from weights, gradient and both moments of each. What is `free` may be
// written over.
const char *clip_burn_adamw(at::Tensor **made, const at::Tensor *const *given, const bool *free, size_t count, double keep,
                            double rate, double beta1, double beta2, double eps) {
    return attempt([&] {
        std::vector<at::Tensor> weights, gradients, exp_avgs, exp_avg_sqs;
        for (size_t i = 0; i < count; i++, given += 4, free += 4) {
            auto own = [&](int which) { return free[which] ? *given[which] : given[which]->clone(); };
            weights.push_back(own(0));
            gradients.push_back(*given[1]);
            exp_avgs.push_back(own(2));
            exp_avg_sqs.push_back(own(3));
        }
        if (keep != 1) at::_foreach_mul_(weights, keep);
        // So late that no bias is left to correct.
        std::vector<at::Tensor> steps(count, at::full({}, 1e9, weights[0].options()));
        at::_fused_adamw_(weights, gradients, exp_avgs, exp_avg_sqs, {}, steps, rate, beta1, beta2, 0.0, eps, false, false);
        for (size_t i = 0; i < count; i++) {
            *made++ = new at::Tensor(weights[i]);
            *made++ = new at::Tensor(exp_avgs[i]);
            *made++ = new at::Tensor(exp_avg_sqs[i]);
        }
    });
}

// The norm of all tensors together, [1].
const char *clip_burn_norm(at::Tensor **made, const at::Tensor *const *given, size_t count) {
    return attempt([&] {
        auto norms = at::_foreach_norm(list(given, count), 2);
        made[0] = new at::Tensor(at::linalg_vector_norm(at::stack(norms)).reshape({1}));
    });
}

// Each tensor times the one number of another, in its place.
const char *clip_burn_scale(const at::Tensor *const *given, size_t count, const at::Tensor *factor) {
    return attempt([&] { at::_foreach_mul_(list(given, count), factor->reshape({})); });
}

// A tensor of numbers of the host, on a GPU by its index, or at home if that is negative. The way to a GPU leads through memory that it
// reads by itself: nobody waits.
const char *clip_burn_upload(at::Tensor **made, const void *numbers, const int64_t *sizes, size_t rank, int kind, int gpu) {
    return attempt([&] {
        auto options = at::TensorOptions(static_cast<at::ScalarType>(kind)).pinned_memory(gpu >= 0);
        at::Tensor host = at::empty(at::IntArrayRef(sizes, rank), options);
        std::memcpy(host.data_ptr(), numbers, host.nbytes());
        if (gpu >= 0) host = host.to(at::Device(at::kCUDA, gpu), /*non_blocking=*/true);
        made[0] = new at::Tensor(host);
    });
}

// Gradients of the leaves that an output was recorded from, by the output's.
const char *clip_burn_gradients(at::Tensor **made, const at::Tensor *output, const at::Tensor *dy,
                                const at::Tensor *const *leaves, size_t count) {
    return attempt([&] {
        auto gradients = torch::autograd::grad({*output}, list(leaves, count), {*dy});
        for (size_t i = 0; i < count; i++) made[i] = new at::Tensor(gradients[i]);
    });
}

} // extern "C"
