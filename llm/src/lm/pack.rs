/// Blocks of exactly `block` tokens out of texts of any length: `group` texts at a time are put one after another and cut;
/// what is left at the end of a group is dropped (LLM2Vec's 1000 texts).
///
/// Texts come with the token that begins one, which is how a model can tell them apart.
///
/// # Panics
///
/// Panics if `block` or `group` is 0.
pub fn pack(texts: &[Vec<u32>], block: usize, group: usize) -> Vec<Vec<u32>> {
    let groups = texts.chunks(group);
    let joined = groups.map(|texts| texts.concat());
    joined
        .flat_map(|ids| {
            let blocks = ids.chunks_exact(block);
            blocks.map(<[u32]>::to_vec).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_joined_cut_and_lose_their_rest() {
        let texts = [vec![1, 2], vec![3], vec![4, 5, 6], vec![7, 8], vec![9]];
        let packed = pack(&texts, 2, 3);
        assert_eq!(packed, [[1, 2], [3, 4], [5, 6], [7, 8]]);
        assert_eq!(pack(&texts, 4, 2), [[4, 5, 6, 7]]);
        assert!(pack(&texts, 100, 5).is_empty());
    }
}
