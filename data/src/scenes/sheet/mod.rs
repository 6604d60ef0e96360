//! A contact sheet: images of the world with their captions under them, to be looked at by people.

mod font;

use image::{Rgb, RgbImage, imageops};

use super::{SceneSample, Scenes, Split, Words, captions::RewriteStyle};

/// Width of an image on the sheet; smaller images are enlarged by a whole factor.
const PICTURE: u32 = 192;
/// Letters per line.
const COLUMNS: usize = 52;
const LETTER: u32 = font::WIDTH + 1;
const LINE: u32 = font::HEIGHT + 1;
const GAP: u32 = 14;
const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([30, 30, 34]);
const NAME: Rgb<u8> = Rgb([30, 84, 180]);

/// Draws the first `count` images of a split in rows of `columns`, each with its class, web caption, rewrites, synthetic
/// caption and first two test captions.
pub fn contact_sheet(world: &Scenes, split: Split, count: usize, columns: usize) -> RgbImage {
    let columns = columns.max(1);
    let names = world.class_names(Words::Synonyms);
    let cells: Vec<_> = (0..count.min(world.len(split)))
        .map(|index| {
            let sample = world.sample(split, index);
            let lines = lines(&sample, &names[sample.label]);
            (enlarge(&sample.image), lines)
        })
        .collect();

    let picture = cells.first().map_or(PICTURE, |(image, _)| image.height());
    let text = COLUMNS as u32 * LETTER;
    let cell_width = picture.max(text) + GAP;
    let row_height = |row: &[(RgbImage, Vec<Line>)]| {
        let lines = row.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
        picture + lines as u32 * LINE + 2 * GAP
    };
    let height: u32 = cells.chunks(columns).map(row_height).sum();
    let mut sheet = RgbImage::from_pixel(
        GAP + columns as u32 * cell_width,
        (GAP + height).max(1),
        PAPER,
    );

    let mut top = GAP;
    for row in cells.chunks(columns) {
        for (column, (image, lines)) in row.iter().enumerate() {
            let left = GAP + column as u32 * cell_width;
            imageops::replace(&mut sheet, image, i64::from(left), i64::from(top));
            for (i, line) in lines.iter().enumerate() {
                let y = top + picture + 6 + i as u32 * LINE;
                write(&mut sheet, &line.text, left, y, line.colour);
            }
        }
        top += row_height(row);
    }
    sheet
}

struct Line {
    text: String,
    colour: Rgb<u8>,
}

fn lines(sample: &SceneSample, class: &str) -> Vec<Line> {
    let captions = &sample.captions;
    let mut lines = vec![Line {
        text: format!("{}: {class}", sample.key),
        colour: NAME,
    }];
    let mut add = |name: &str, text: &str| {
        let wrapped = wrap(&format!("{name}: {text}"), COLUMNS);
        lines.extend(wrapped.into_iter().map(|text| Line { text, colour: INK }));
    };
    add(&format!("web ({:?})", captions.web_kind), &captions.web);
    for (style, text) in RewriteStyle::ALL.iter().zip(&captions.rewrites) {
        add(style.name(), text);
    }
    add("synthetic", &captions.synthetic);
    add("test 1", &captions.test[0]);
    add("test 2", &captions.test[1]);
    lines
}

/// Breaks at spaces; later lines are indented.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one line at least");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= columns {
            *line += &format!(" {word}");
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines
}

fn enlarge(image: &RgbImage) -> RgbImage {
    let factor = (PICTURE / image.width()).max(1);
    imageops::resize(
        image,
        image.width() * factor,
        image.height() * factor,
        imageops::Nearest,
    )
}

fn write(sheet: &mut RgbImage, text: &str, left: u32, top: u32, colour: Rgb<u8>) {
    for (i, letter) in text.chars().enumerate() {
        for y in 0..font::HEIGHT {
            for x in 0..font::WIDTH {
                let at = (left + i as u32 * LETTER + x, top + y);
                if font::dot(letter, x, y) && at.0 < sheet.width() && at.1 < sheet.height() {
                    sheet.put_pixel(at.0, at.1, colour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ScenesConfig;
    use super::*;

    #[test]
    fn the_sheet_shows_the_images_and_ink() {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        let sheet = contact_sheet(&world, Split::Test, 3, 2);
        // The first image stands at the first gap, three times as large.
        let image = world.image(Split::Test, 0);
        for (x, y) in [(0, 0), (20, 40), (63, 63)] {
            assert_eq!(
                sheet.get_pixel(GAP + 3 * x + 1, GAP + 3 * y + 1),
                image.get_pixel(x, y)
            );
        }
        assert!(sheet.pixels().filter(|pixel| **pixel == INK).count() > 1000);
        assert_eq!(contact_sheet(&world, Split::Test, 0, 4).height(), GAP);
    }

    #[test]
    fn wrapping_loses_no_word() {
        let text = "one two three four five";
        let lines = wrap(text, 9);
        assert!(lines.iter().all(|line| line.len() <= 9), "{lines:?}");
        assert_eq!(
            lines
                .join(" ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            text
        );
    }
}
