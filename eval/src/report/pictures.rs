//! Which picture files a page may show.

use std::path::{Path, PathBuf};

use crate::images::ImageRef;
use crate::results::RunResult;

/// Which picture files a page may show. A result names files by their paths and can come from anyone, and the page carries
/// the pictures to whoever it is sent to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Pictures {
    /// Any file: the results are this program's own.
    All,
    /// Files below these folders, links resolved.
    Below(Vec<PathBuf>),
}

impl Pictures {
    /// Files below these folders.
    ///
    /// # Errors
    ///
    /// If one of them does not exist.
    pub fn below(folders: &[PathBuf]) -> std::io::Result<Self> {
        let resolved = folders.iter().map(|folder| folder.canonicalize());
        Ok(Self::Below(resolved.collect::<Result<_, _>>()?))
    }

    pub(super) fn allow(&self, image: &ImageRef) -> bool {
        match self {
            Self::All => true,
            Self::Below(folders) => {
                let file = image.file().canonicalize();
                file.is_ok_and(|file| folders.iter().any(|folder| file.starts_with(folder)))
            }
        }
    }

    /// Folders of the pictures that results name and a page may not show, each once.
    pub fn hidden(&self, results: &[RunResult]) -> Vec<PathBuf> {
        let details = results.iter().filter_map(|run| run.details.as_ref());
        let images = details.flat_map(|details| {
            let of_queries = details.queries.iter().flat_map(|query| {
                let hits = query.hits.iter().map(|hit| &hit.image);
                hits.chain(&query.right)
            });
            of_queries.chain(details.captions.iter().map(|captioned| &captioned.image))
        });
        let hidden = images.filter(|image| image.file().exists() && !self.allow(image));
        let mut folders: Vec<PathBuf> = hidden
            .filter_map(|image| image.file().parent().map(Path::to_path_buf))
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_folders_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (public, private) = (dir.path().join("public"), dir.path().join("private"));
        for folder in [&public, &private] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("a.png"), b"").unwrap();
        }
        let pictures = Pictures::below(std::slice::from_ref(&public)).unwrap();
        let file = |path: PathBuf| ImageRef::File(path);
        assert!(pictures.allow(&file(public.join("a.png"))));
        assert!(!pictures.allow(&file(private.join("a.png"))));
        assert!(!pictures.allow(&file(public.join("../private/a.png"))));
        #[cfg(unix)]
        {
            let link = public.join("link.png");
            std::os::unix::fs::symlink(private.join("a.png"), &link).unwrap();
            assert!(!pictures.allow(&file(link)));
        }
        assert!(Pictures::below(&[dir.path().join("none")]).is_err());
    }
}
