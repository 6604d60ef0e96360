//! Learning rate as a pure function of the step, so that a resumed run needs nothing but the step.
//!
//! The formulae are those of open_clip's `scheduler.py`; `warmup_start` and `end` add what LaCLIP's
//! trainer does.

use crate::error::{Result, TrainError};
use serde::{Deserialize, Serialize};

/// Shape of the curve after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Half a cosine from the peak to `end`.
    #[default]
    Cosine,
    /// A straight line from the peak to `end` (transformers' `linear`).
    Linear,
    /// The peak until the last step.
    Const,
    /// The peak, then a polynomial fall to `end` over the last `cooldown` steps.
    ConstCooldown,
}

/// The `[schedule]` table of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// `cosine`, `linear`, `const` or `const-cooldown`.
    pub curve: Curve,
    /// Steps of linear warm-up. May not exceed the steps of the run.
    pub warmup: u64,
    /// Learning rate of the first warm-up step. Absent: `lr / warmup`, as in open_clip.
    pub warmup_start: Option<f64>,
    /// Starts the warm-up one step earlier, at 0: `lr · step / warmup` (OpenVision, transformers). Not with `warmup_start`.
    pub warmup_from_zero: bool,
    /// Learning rate that the curve falls to (`cosine`, `linear`, `const-cooldown`).
    pub end: f64,
    /// Steps of the final fall (`const-cooldown`).
    pub cooldown: u64,
    /// Exponent of the final fall (`const-cooldown`); 1 is linear.
    pub power: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            curve: Curve::Cosine,
            warmup: 10_000,
            warmup_start: None,
            warmup_from_zero: false,
            end: 0.0,
            cooldown: 0,
            power: 1.0,
        }
    }
}

/// A learning-rate schedule for a run of known length.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    peak: f64,
    total: u64,
}

impl Schedule {
    /// A schedule that peaks at `peak` and ends after `total` steps.
    ///
    /// # Errors
    ///
    /// When warm-up and cool-down do not fit into the run, or a rate is negative or not finite.
    pub fn new(config: ScheduleConfig, peak: f64, total: u64) -> Result<Self> {
        let ScheduleConfig {
            warmup,
            cooldown,
            warmup_start,
            end,
            ..
        } = config;
        let rates = [Some(peak), warmup_start, Some(end)];
        if let Some(bad) = rates
            .into_iter()
            .flatten()
            .find(|r| !r.is_finite() || *r < 0.0)
        {
            return Err(TrainError::Config(format!(
                "a learning rate of {bad} is not usable: give a finite number that is not negative"
            )));
        }
        if !(config.power.is_finite() && config.power >= 0.0) {
            return Err(TrainError::Config(format!(
                "schedule.power = {} must be a finite number of at least 0",
                config.power
            )));
        }
        if config.warmup_from_zero && warmup_start.is_some() {
            return Err(TrainError::Config(
                "schedule.warmup_from_zero and schedule.warmup_start both say where the warm-up starts: give one".into(),
            ));
        }
        if warmup > total {
            return Err(TrainError::Config(format!(
                "schedule.warmup = {warmup} exceeds the {total} steps of the run, so the peak learning \
                 rate would never be reached: lower schedule.warmup or train longer"
            )));
        }
        if config.curve == Curve::ConstCooldown
            && (cooldown == 0 || warmup.saturating_add(cooldown) > total)
        {
            return Err(TrainError::Config(format!(
                "schedule.cooldown = {cooldown} must be at least 1 and, with schedule.warmup = {warmup}, \
                 at most the {total} steps of the run"
            )));
        }
        Ok(Self {
            config,
            peak,
            total,
        })
    }

    /// Learning rate to use in the update number `step`, counted from 0.
    pub fn lr_at(&self, step: u64) -> f64 {
        let ScheduleConfig {
            curve,
            warmup,
            warmup_start,
            warmup_from_zero,
            end,
            cooldown,
            power,
        } = self.config;
        if step < warmup {
            return match warmup_start {
                None if warmup_from_zero => self.peak * step as f64 / warmup as f64,
                None => self.peak * (step + 1) as f64 / warmup as f64,
                Some(start) => {
                    // Both ends included, as numpy's linspace.
                    let share = step as f64 / (warmup.max(2) - 1) as f64;
                    start + (self.peak - start) * share
                }
            };
        }
        match curve {
            Curve::Const => self.peak,
            Curve::Linear => {
                let left = 1.0 - fraction(step, warmup, self.total);
                end + left * (self.peak - end)
            }
            Curve::Cosine => {
                let done = fraction(step, warmup, self.total);
                end + 0.5 * (1.0 + (std::f64::consts::PI * done).cos()) * (self.peak - end)
            }
            Curve::ConstCooldown => {
                let start = self.total - cooldown;
                if step < start {
                    return self.peak;
                }
                let left = 1.0 - fraction(step, start, self.total);
                end + left.powf(power) * (self.peak - end)
            }
        }
    }
}

/// Where `step` lies between `start` (0) and `end` (1).
fn fraction(step: u64, start: u64, end: u64) -> f64 {
    if end <= start {
        return 1.0;
    }
    ((step - start) as f64 / (end - start) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(config: ScheduleConfig) -> Schedule {
        Schedule::new(config, 1.0, 10).unwrap()
    }

    /// Section 6.1 of CLIPS' description: 0 at step 0, the peak at the end of the warm-up, nearly 0 at the last step.
    #[test]
    fn a_warm_up_from_zero_reaches_the_peak_one_step_later() {
        let s = schedule(ScheduleConfig {
            warmup: 4,
            warmup_from_zero: true,
            ..Default::default()
        });
        assert_eq!(
            (s.lr_at(0), s.lr_at(1), s.lr_at(4)),
            (0.0, 0.25 * s.peak, s.peak)
        );
        assert!(s.lr_at(s.total - 1) < 0.1 * s.peak);
        let both = ScheduleConfig {
            warmup: 4,
            warmup_from_zero: true,
            warmup_start: Some(1e-6),
            ..Default::default()
        };
        assert!(Schedule::new(both, 1.0, 10).is_err());
    }

    #[test]
    fn warm_up_reaches_the_peak_at_its_last_step() {
        let s = schedule(ScheduleConfig {
            warmup: 4,
            ..Default::default()
        });
        let rates: Vec<f64> = (0..4).map(|step| s.lr_at(step)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn cosine_is_half_way_down_in_the_middle_and_nearly_zero_at_the_last_step() {
        let s = schedule(ScheduleConfig {
            warmup: 2,
            ..Default::default()
        });
        assert_eq!(s.lr_at(2), 1.0);
        assert!((s.lr_at(6) - 0.5).abs() < 1e-12);
        // Last of 8 steps: (1 + cos(7π/8)) / 2.
        assert!((s.lr_at(9) - 0.038_060_233_744_356_62).abs() < 1e-12);
        assert!(s.lr_at(10).abs() < 1e-12);
    }

    #[test]
    fn a_line_falls_by_equal_steps_from_the_peak_towards_zero() {
        let s = schedule(ScheduleConfig {
            curve: Curve::Linear,
            warmup: 2,
            ..Default::default()
        });
        let rates: Vec<f64> = (2..10).map(|step| s.lr_at(step) * 8.0).collect();
        let expected = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        assert!(
            rates
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12),
            "{rates:?}"
        );
    }

    #[test]
    fn cosine_ends_at_the_given_rate_and_warm_up_starts_at_the_given_rate() {
        let config = ScheduleConfig {
            warmup: 3,
            warmup_start: Some(0.1),
            end: 0.2,
            ..Default::default()
        };
        let s = schedule(config);
        assert!((s.lr_at(0) - 0.1).abs() < 1e-12);
        assert!((s.lr_at(1) - 0.55).abs() < 1e-12);
        assert!((s.lr_at(2) - 1.0).abs() < 1e-12);
        assert!((s.lr_at(10) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn const_cooldown_falls_only_at_the_end() {
        let config = ScheduleConfig {
            curve: Curve::ConstCooldown,
            warmup: 1,
            cooldown: 4,
            power: 2.0,
            ..Default::default()
        };
        let s = schedule(config);
        let rates: Vec<f64> = (0..10).map(|step| s.lr_at(step)).collect();
        assert_eq!(
            rates,
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5625, 0.25, 0.0625]
        );
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_refused() {
        let config = ScheduleConfig {
            warmup: 11,
            ..Default::default()
        };
        let message = Schedule::new(config, 1.0, 10).unwrap_err().to_string();
        assert!(
            message.contains("11") && message.contains("10 steps"),
            "{message}"
        );
    }

    #[test]
    fn a_rate_that_is_no_number_is_refused() {
        assert!(Schedule::new(ScheduleConfig::default(), f64::NAN, 20_000).is_err());
    }
}
