/// Which positions predict which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predictions {
    /// Positions in the flattened `[rows, seq]`.
    pub(super) positions: Vec<u32>,
    /// The token that each should predict.
    pub(super) tokens: Vec<u32>,
}

impl Predictions {
    /// A label at position `i` of a row is predicted by position `i - 1`, so one at position 0 counts for nothing.
    ///
    /// `labels` are rows of `seq`, one after another; None is not predicted. For language modelling they are the tokens
    /// themselves, without padding and, in packed lines, without the token that begins a line: nothing foretells it.
    ///
    /// # Panics
    ///
    /// Panics if `labels` are no whole rows.
    pub fn new(labels: &[Option<u32>], seq: usize) -> Self {
        assert!(
            seq > 0 && labels.len().is_multiple_of(seq),
            "labels come in rows of seq"
        );
        let labels = (0u32..).zip(labels);
        let predicted = labels.filter(|(at, _)| !(*at as usize).is_multiple_of(seq));
        let (positions, tokens) = predicted
            .filter_map(|(at, label)| Some((at - 1, (*label)?)))
            .unzip();
        Self { positions, tokens }
    }

    /// Each position predicts the label at its own place; None is not predicted.
    pub fn in_place(labels: &[Option<u32>]) -> Self {
        let labels = (0u32..).zip(labels);
        let (positions, tokens) = labels
            .filter_map(|(at, label)| Some((at, (*label)?)))
            .unzip();
        Self { positions, tokens }
    }

    /// Number of predicted tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing is predicted.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_before_predicts_a_token_and_none_predicts_the_first() {
        let labels = [Some(7), None, Some(8), Some(9), Some(10), None];
        let predictions = Predictions::new(&labels, 3);
        assert_eq!(predictions.positions, [1, 3]);
        assert_eq!(predictions.tokens, [8, 10]);
        assert!(Predictions::new(&[Some(1), Some(2)], 1).is_empty());
    }
}
