//! Functions of one float that the compiler can put into vectors: no branches, no calls.

/// e to the x. Relative error below 2e-7 from −87 to 88; beyond, the values at these ends.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: its last bits are the rounded integer
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x }; // comparisons leave NaN as it is
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has few bits.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let power = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    y * f32::from_bits(power)
}

/// `1 / (1 + exp(−x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function, by polynomials below and above 0.93. Absolute error below 2e-7.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let (t, s) = (x.abs(), x * x);
    let p = -5.967_617e-4;
    let p = p * s + 4.991_194_3e-3;
    let p = p * s - 2.676_813_5e-2;
    let p = p * s + 1.128_199_2e-1;
    let p = p * s - 3.761_253_4e-1;
    let p = p * s + 1.283_791_7e-1;
    let small = p * x + x;
    let q = -1.728_534_7e-5 * t + 3.831_971_3e-4;
    let u = -3.883_964_4e-3 * t + 2.425_462_2e-2;
    let q = q * s + u;
    let q = q * t - 1.067_778_8e-1;
    let q = q * t - 6.348_467e-1;
    let q = q * t - 1.287_175_1e-1;
    let q = q * t - t;
    let large = (1.0 - exp(q)).copysign(x);
    if t > 0.927_734_4 { large } else { small }
}

/// Sum of `f` over pairs, in sixteen strands, whatever the vectors of the CPU are.
#[inline(always)]
pub(super) fn sum(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const STRANDS: usize = 16;
    let mut strands = [0f32; STRANDS];
    let (xs, ys) = (x.chunks_exact(STRANDS), y.chunks_exact(STRANDS));
    let rest = xs.remainder().iter().zip(ys.remainder());
    let rest: f32 = rest.map(|(x, y)| f(*x, *y)).sum();
    for (x, y) in xs.zip(ys) {
        for (strand, (x, y)) in strands.iter_mut().zip(x.iter().zip(y)) {
            *strand += f(*x, *y);
        }
    }
    strands.iter().sum::<f32>() + rest
}

/// The largest of some floats, by the rule of `f32::max`.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    const STRANDS: usize = 16;
    let mut strands = [f32::NEG_INFINITY; STRANDS];
    let chunks = x.chunks_exact(STRANDS);
    let rest = chunks
        .remainder()
        .iter()
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    for chunk in chunks {
        for (strand, x) in strands.iter_mut().zip(chunk) {
            *strand = if *x > *strand { *x } else { *strand };
        }
    }
    strands.iter().fold(rest, |a, b| a.max(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_as_good_as_their_documentation_says() {
        let points = (-870_000..880_000).map(|i| i as f32 * 1e-4);
        let (mut of_exp, mut of_erf) = (0f64, 0f64);
        for x in points {
            let exact = f64::from(x).exp();
            of_exp = of_exp.max((f64::from(exp(x)) / exact - 1.0).abs());
            of_erf = of_erf.max((f64::from(erf(x)) - exact_erf(f64::from(x))).abs());
        }
        assert!(of_exp < 2e-7 && of_erf < 2e-7, "{of_exp:e} {of_erf:e}");
        for f in [exp, sigmoid, erf] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((sigmoid(1e30), sigmoid(-1e30) < 1e-37), (1.0, true));
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }

    /// By its series, or its continued fraction where that would take long.
    fn exact_erf(x: f64) -> f64 {
        let t = x.abs();
        let value = if t < 3.0 {
            let (mut term, mut sum, mut n) = (t, t, 0.0);
            while term.abs() > 1e-18 {
                n += 1.0;
                term *= -t * t / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..60)
                .rev()
                .fold(t, |inner, k| t + f64::from(k) / 2.0 / inner);
            1.0 - (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        value.copysign(x)
    }

    #[test]
    fn sums_and_largest_values_of_any_length() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|x| f64::from(*x)).sum();
            assert!((f64::from(sum(&x, &x, |x, _| x)) - exact).abs() < 1e-5);
            assert_eq!(max(&x), x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b)));
        }
    }
}
