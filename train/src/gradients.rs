//! Sums and norms over the gradients of a model.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, backend::AutodiffBackend};

/// Adds `part`, the gradients of the parameters of `module`, to `total`.
pub fn add<B: AutodiffBackend, M: AutodiffModule<B>>(
    total: &mut GradientsParams,
    module: &M,
    part: GradientsParams,
) {
    module.visit(&mut Add { total, part });
}

/// Global L2 norm of all gradients, in f32 on the device; `None` when there is no gradient.
pub fn norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &GradientsParams,
) -> Option<Tensor<B::InnerBackend, 1>> {
    let mut squares = Squares::<B> {
        gradients,
        sum: None,
    };
    model.visit(&mut squares);
    squares.sum.map(|sum| sum.sqrt())
}

/// Scales all gradients so that their global norm is at most `max`, as PyTorch's `clip_grad_norm_`. Nothing
/// is read from the device.
pub fn clip<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &mut GradientsParams,
    norm: Tensor<B::InnerBackend, 1>,
    max: f64,
) {
    let factor = (norm + 1e-6).recip().mul_scalar(max).clamp_max(1.0);
    scale(model, gradients, factor);
}

/// Multiplies all gradients by a scalar tensor.
fn scale<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
) {
    model.visit(&mut Scale::<B> { gradients, factor });
}

struct Add<'a> {
    total: &'a mut GradientsParams,
    part: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(new) = self.part.remove::<B::InnerBackend, D>(param.id) else {
            return;
        };
        let sum = match self.total.remove::<B::InnerBackend, D>(param.id) {
            Some(old) => old + new,
            None => new,
        };
        self.total.register(param.id, sum);
    }
}

struct Squares<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) else {
            return;
        };
        let square = gradient.cast(DType::F32).square().sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + square,
            None => square,
        });
    }
}

struct Scale<'a, B: AutodiffBackend> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) else {
            return;
        };
        let factor = self.factor.clone().cast(gradient.dtype()).reshape([1; D]);
        self.gradients.register(param.id, gradient * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Towers, TrainBackend};
    use burn::tensor::backend::Backend;

    type Inner = <TrainBackend as AutodiffBackend>::InnerBackend;

    /// Gradients of 3 for one scalar and of 4 for one element of another parameter: norm 5.
    fn three_and_four(model: &Towers<TrainBackend>) -> GradientsParams {
        let device = Default::default();
        let mut gradients = GradientsParams::new();
        gradients.register(
            model.logit_scale.id,
            Tensor::<Inner, 1>::from_data([3.0], &device),
        );
        let shape = model.text.text_projection.dims();
        let gradient = Tensor::<Inner, 2>::zeros(shape, &device)
            .slice_assign([0..1, 0..1], Tensor::from_data([[4.0]], &device));
        gradients.register(model.text.text_projection.id, gradient);
        gradients
    }

    fn model() -> Towers<TrainBackend> {
        Towers::new(
            0,
            &<TrainBackend as burn::tensor::backend::BackendTypes>::Device::default(),
        )
    }

    #[test]
    fn the_norm_is_over_all_parameters_together() {
        let model = model();
        let norm = norm(&model, &three_and_four(&model)).unwrap();
        assert_eq!(norm.into_scalar(), 5.0);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let model = model();
        let mut gradients = three_and_four(&model);
        let before = norm(&model, &gradients).unwrap();
        clip(&model, &mut gradients, before, 1.0);
        let scale = gradients
            .get::<Inner, 1>(model.logit_scale.id)
            .unwrap()
            .into_scalar();
        assert!((scale - 0.6).abs() < 1e-6);
        assert!((norm(&model, &gradients).unwrap().into_scalar() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_norm_below_the_limit_changes_nothing() {
        let model = model();
        let mut gradients = three_and_four(&model);
        let before = norm(&model, &gradients).unwrap();
        clip(&model, &mut gradients, before, 6.0);
        assert_eq!(
            gradients
                .get::<Inner, 1>(model.logit_scale.id)
                .unwrap()
                .into_scalar(),
            3.0
        );
    }

    #[test]
    fn adding_sums_common_parameters_and_takes_over_the_rest() {
        let model = model();
        let mut total = GradientsParams::new();
        add(&mut total, &model, three_and_four(&model));
        add(&mut total, &model, three_and_four(&model));
        assert_eq!(total.len(), 2);
        assert_eq!(norm(&model, &total).unwrap().into_scalar(), 10.0);
        let _ = Inner::name(&Default::default());
    }
}
