//! Choosing the right caption for an image and the right image for a caption within small groups
//! (Winoground, Thrush et al., 2022; SugarCrepe, Hsieh et al., 2023).

use crate::metrics::classification::argmax;

/// Outcome of one group of images and captions, where image `i` belongs to caption `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Every image picked its own caption.
    pub text: bool,
    /// Every caption picked its own image.
    pub image: bool,
    /// The right score was equalled by a wrong one somewhere. The first wins, so such a choice counts as right for
    /// data that lists the right answer first.
    pub tied: bool,
}

/// Judges one group. `scores` is row-major `[images, texts]`.
///
/// # Panics
///
/// Panics if `scores` does not have `images * texts` values.
pub fn judge(scores: &[f32], images: usize, texts: usize) -> Choice {
    assert_eq!(scores.len(), images * texts);
    let pairs = images.min(texts);
    let column = |text: usize| {
        (0..images)
            .map(|i| scores[i * texts + text])
            .collect::<Vec<_>>()
    };
    let row = |image: usize| &scores[image * texts..(image + 1) * texts];
    let equalled =
        |scores: &[f32], own: usize| scores.iter().filter(|&&s| s == scores[own]).count() > 1;
    Choice {
        text: (0..pairs).all(|i| argmax(row(i)) == i),
        image: (0..pairs).all(|i| argmax(&column(i)) == i),
        tied: (0..pairs).any(|i| equalled(row(i), i) || equalled(&column(i), i)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_winoground_group_can_be_half_right() {
        // Image 0 prefers caption 0, image 1 prefers caption 1; but both captions prefer image 0.
        let choice = judge(&[0.9, 0.8, 0.1, 0.2], 2, 2);
        assert_eq!(
            choice,
            Choice {
                text: true,
                image: false,
                tied: false
            }
        );
        assert_eq!(
            judge(&[0.9, 0.1, 0.2, 0.8], 2, 2),
            Choice {
                text: true,
                image: true,
                tied: false
            }
        );
    }

    #[test]
    fn with_one_image_only_the_text_choice_says_anything() {
        assert_eq!(
            judge(&[0.3, 0.7], 1, 2),
            Choice {
                text: false,
                image: true,
                tied: false
            }
        );
        assert_eq!(
            judge(&[0.7, 0.7], 1, 2),
            Choice {
                text: true,
                image: true,
                tied: true
            }
        );
    }
}
