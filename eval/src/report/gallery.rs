//! Captions with the images that were found for them, as small pictures inside the page.

use base64::{Engine, engine::general_purpose::STANDARD};
use clip::preprocess::{Interpolation, resize};
use image::codecs::jpeg::JpegEncoder;
use maud::{Markup, html};

use super::Pictures;
use crate::images::ImageRef;
use crate::results::{Captioned, Query, RunResult};

/// Longer side of a picture in pixels, shown at half of it for sharp screens.
const SIDE: u32 = 224;
const QUALITY: u8 = 80;

/// The example queries of every run.
pub(super) fn queries(runs: &[&RunResult], pictures: &Pictures) -> Markup {
    html! {
        @for run in runs {
            @let queries = run.details.as_ref().map(|d| d.queries.as_slice()).unwrap_or_default();
            @if !queries.is_empty() {
                h3 { "Images found: " (run.dataset) ", " (run.model_fullname()) }
                p.hint { "The five best images for a caption, best first. Right ones have a green frame." }
                @for query in queries { (one(query, pictures)) }
            }
        }
    }
}

fn one(query: &Query, pictures: &Pictures) -> Markup {
    let found = query.hits.iter().any(|hit| hit.right);
    html! {
        article.query {
            p.caption { (query.text) span.rank.good[query.rank == 1].bad[!found] { "rank " (query.rank) } }
            div.strip {
                @for hit in &query.hits {
                    (picture(pictures, &hit.image, if hit.right { "right" } else { "" }, &format!("{:.3}", hit.score)))
                }
                @if let (false, Some(right)) = (found, &query.right) { (picture(pictures, right, "right missed", "the right one")) }
            }
        }
    }
}

/// The example captions of every run.
pub(super) fn captions(runs: &[&RunResult], pictures: &Pictures) -> Markup {
    html! {
        @for run in runs {
            @let captions = run.details.as_ref().map(|d| d.captions.as_slice()).unwrap_or_default();
            @if !captions.is_empty() {
                h3 { "Captions: " (run.dataset) ", " (run.model_fullname()) }
                p.hint { "What the model says, under each image; below, what it read beside the image and what it should have said." }
                div.captioned {
                    @for captioned in captions { (with_caption(captioned, pictures)) }
                }
            }
        }
    }
}

fn with_caption(captioned: &Captioned, pictures: &Pictures) -> Markup {
    html! {
        article.query {
            (picture(pictures, &captioned.image, "", ""))
            p.caption { @if captioned.said.is_empty() { em { "nothing" } } @else { (captioned.said) } }
            @if !captioned.web.is_empty() { p.hint { "read: " (captioned.web) } }
            @for reference in captioned.references.iter().take(2) { p.hint { "right: " (reference) } }
        }
    }
}

pub(super) fn picture(pictures: &Pictures, image: &ImageRef, class: &str, note: &str) -> Markup {
    let thumbnail = match pictures.allow(image) {
        true => thumbnail(image),
        false => Err(format!(
            "{}: not in a folder that pictures are taken from",
            image.name()
        )),
    };
    html! {
        figure class=(class) {
            @match thumbnail {
                Ok(data) => img src=(data) alt=(file_name(image)) title=(image.name());,
                Err(reason) => div.missing title=(reason) { (file_name(image)) br; "cannot be shown" },
            }
            figcaption { (note) }
        }
    }
}

fn file_name(image: &ImageRef) -> String {
    image
        .name()
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A JPEG as a data URI.
fn thumbnail(image: &ImageRef) -> Result<String, String> {
    let rgb = image.decode().map_err(|e| e.to_string())?;
    let (width, height) = rgb.dimensions();
    let scale = f64::from(SIDE) / f64::from(width.max(height));
    let small = |side: u32| ((f64::from(side) * scale).round() as usize).max(1);
    let rgb = if scale < 1.0 {
        resize(&rgb, [small(height), small(width)], Interpolation::Bicubic)
    } else {
        rgb
    };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(&rgb)
        .map_err(|e| e.to_string())?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
