//! What a search has found, as a page of small pictures.

use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, html};

use super::gallery::picture;
use super::{Pictures, head};
use crate::error::Result;
use crate::files;
use crate::images::ImageRef;

/// What was looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Sought {
    /// Words.
    Text(String),
    /// A picture like this one.
    Image(PathBuf),
}

/// What was looked for, and the images that were found, best first, with their cosines. An image without a name is shown by
/// the number of its row.
#[derive(Clone, Debug)]
pub struct Found {
    /// The query.
    pub sought: Sought,
    /// Row, image and cosine.
    pub hits: Vec<(usize, Option<PathBuf>, f32)>,
}

/// Writes a page about some queries. It stands alone: pictures lie inside it, small.
///
/// # Errors
///
/// Names the file that could not be written. A picture that cannot be read is named on the page.
pub fn save_found(queries: &[Found], pictures: &Pictures, path: &Path) -> Result<()> {
    files::write(path, page(queries, pictures).into_string().as_bytes())
}

fn page(queries: &[Found], pictures: &Pictures) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head("Images found"))
            body {
                header {
                    h1 { "Images found" }
                    p.lead { (queries.len()) @if queries.len() == 1 { " query" } @else { " queries" } }
                }
                main { @for query in queries { (one(query, pictures)) } }
                footer { "Below each image: its rank and its cosine with the query. Made by clip-burn." }
            }
        }
    }
}

fn one(query: &Found, pictures: &Pictures) -> Markup {
    html! {
        section {
            @match &query.sought {
                Sought::Text(text) => h2 { (text) },
                Sought::Image(path) => {
                    h2 { "Images like " (path.display()) }
                    article.query { div.strip { (picture(pictures, &ImageRef::File(path.clone()), "", "the query")) } }
                }
            }
            article.query {
                div.strip {
                    @for (rank, (row, image, score)) in (1..).zip(&query.hits) {
                        @let note = format!("{rank} · {score:.3}");
                        @match image {
                            Some(path) => (picture(pictures, &ImageRef::File(path.clone()), "", &note)),
                            None => figure { div.missing { "row " (row) } figcaption { (note) } },
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_its_pictures_and_its_text_is_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("a <b> & \"c\".png");
        image::RgbImage::from_pixel(300, 200, image::Rgb([200, 30, 30]))
            .save(&picture)
            .unwrap();
        let queries = [
            Found {
                sought: Sought::Text("a <cat> & a dog".into()),
                hits: vec![
                    (7, Some(picture.clone()), 0.3125),
                    (2, Some(dir.path().join("gone.png")), 0.25),
                    (9, None, 0.125),
                ],
            },
            Found {
                sought: Sought::Image(picture.clone()),
                hits: vec![],
            },
        ];
        let path = dir.path().join("out.html");
        save_found(&queries, &Pictures::All, &path).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        for expected in [
            "2 queries",
            "<h2>a &lt;cat&gt; &amp; a dog</h2>",
            "a &lt;b&gt; &amp; &quot;c&quot;.png",
            "1 · 0.312",
            "gone.png",
            "row 9",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert_eq!(page.matches("data:image/jpeg;base64,").count(), 2);
        for foreign in ["<cat>", "<b>", "<script", "http", "src=\"/", "file://"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // One's own pictures may lie where a page must not show them.
        let none = Pictures::below(&[]).unwrap();
        save_found(&queries, &none, &path).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(!page.contains("data:image"));
    }
}
