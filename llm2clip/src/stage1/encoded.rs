//! Tokenized texts of a batch.

use llm::TextRows;

/// Rows of several tokenized texts as one batch, padded on the left to the longest.
pub fn join_rows(parts: &[TextRows]) -> TextRows {
    let rows = || {
        parts
            .iter()
            .flat_map(|part| (0..part.len()).map(move |row| (part, row)))
    };
    let seq = rows()
        .map(|(part, row)| part.lengths[row])
        .max()
        .unwrap_or(0);
    let padded = rows().flat_map(|(part, row)| {
        let ids = part.row(row);
        std::iter::repeat_n(0, seq - ids.len()).chain(ids.iter().copied())
    });
    TextRows {
        ids: padded.collect(),
        seq,
        lengths: rows().map(|(part, row)| part.lengths[row]).collect(),
        own: rows().map(|(part, row)| part.own[row]).collect(),
        truncated: rows().map(|(part, row)| part.truncated[row]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_padding_are_padded_anew() {
        let part = |ids: &[u32], seq, lengths: &[usize]| TextRows {
            ids: ids.to_vec(),
            seq,
            lengths: lengths.to_vec(),
            own: vec![1; lengths.len()],
            truncated: vec![false; lengths.len()],
        };
        let joined = join_rows(&[
            part(&[0, 0, 5, 7, 8, 9], 3, &[1, 3]),
            part(&[6, 4], 2, &[2]),
        ]);
        assert_eq!(joined, part(&[0, 0, 5, 7, 8, 9, 0, 6, 4], 3, &[1, 3, 2]));
    }
}
