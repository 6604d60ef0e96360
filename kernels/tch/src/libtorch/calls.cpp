// Calls of LibTorch that the crate tch has no functions for. Tensors are its pointers, and those that are made are the
// caller's. What goes wrong comes back as a sentence, which lives until the thread's next call.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/csrc/autograd/autograd.h>

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

// Weights and both moments after an update, from weights, gradient and both moments.
const char *clip_burn_adamw(at::Tensor **made, const at::Tensor *const *given, double keep, double rate, double beta1,
                            double beta2, double eps) {
    return attempt([&] {
        std::vector<at::Tensor> weights{given[0]->mul(keep)}, gradient{*given[1]};
        std::vector<at::Tensor> exp_avg{given[2]->clone()}, exp_avg_sq{given[3]->clone()};
        // So late that no bias is left to correct.
        std::vector<at::Tensor> step{at::full({}, 1e9, weights[0].options())};
        at::_fused_adamw_(weights, gradient, exp_avg, exp_avg_sq, {}, step, rate, beta1, beta2, 0.0, eps, false, false);
        made[0] = new at::Tensor(weights[0]);
        made[1] = new at::Tensor(exp_avg[0]);
        made[2] = new at::Tensor(exp_avg_sq[0]);
    });
}

// Gradients of the leaves that an output was recorded from, by the output's.
const char *clip_burn_gradients(at::Tensor **made, const at::Tensor *output, const at::Tensor *dy,
                                const at::Tensor *const *leaves, size_t count) {
    return attempt([&] {
        std::vector<at::Tensor> inputs;
        for (size_t i = 0; i < count; i++) inputs.push_back(*leaves[i]);
        auto gradients = torch::autograd::grad({*output}, inputs, {*dy});
        for (size_t i = 0; i < count; i++) made[i] = new at::Tensor(gradients[i]);
    });
}

} // extern "C"
