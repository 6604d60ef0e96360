//! Outlines of the shapes, in a circle of radius 1 (corners of the square reach a little past it); y points down.

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder};

use crate::scenes::vocabulary::{Concept, Shape};

/// The outline of a shape.
pub(super) fn of(shape: Shape) -> &'static Path {
    static OUTLINES: LazyLock<Vec<Path>> =
        LazyLock::new(|| Shape::ALL.iter().map(|s| build(*s)).collect());
    &OUTLINES[shape as usize]
}

/// Size of the filling inside the dark rim, as a share of the whole.
pub(super) fn body_scale(shape: Shape) -> f32 {
    match shape {
        Shape::Star | Shape::Moon | Shape::Tree | Shape::Arrow => 0.86,
        _ => 0.9,
    }
}

/// Size of the hole of an outlined shape. Thin shapes need a larger hole to look hollow.
pub(super) fn hole_scale(shape: Shape) -> f32 {
    match shape {
        Shape::Circle | Shape::Square => 0.62,
        Shape::Triangle | Shape::Diamond | Shape::Heart => 0.58,
        _ => 0.56,
    }
}

fn build(shape: Shape) -> Path {
    match shape {
        Shape::Circle => PathBuilder::from_circle(0.0, 0.0, 0.96).expect("a circle is a path"),
        Shape::Square => polygon(&[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
        Shape::Triangle => polygon(&[(0.0, -1.0), (0.98, 0.74), (-0.98, 0.74)]),
        Shape::Diamond => polygon(&[(0.0, -1.05), (0.68, 0.0), (0.0, 1.05), (-0.68, 0.0)]),
        Shape::Star => polygon(&[
            (0.0, -1.05),
            (0.294, -0.354),
            (1.0, -0.274),
            (0.475, 0.205),
            (0.617, 0.9),
            (0.0, 0.55),
            (-0.617, 0.9),
            (-0.475, 0.205),
            (-1.0, -0.274),
            (-0.294, -0.354),
        ]),
        Shape::Cross => polygon(&[
            (-0.34, -0.98),
            (0.34, -0.98),
            (0.34, -0.34),
            (0.98, -0.34),
            (0.98, 0.34),
            (0.34, 0.34),
            (0.34, 0.98),
            (-0.34, 0.98),
            (-0.34, 0.34),
            (-0.98, 0.34),
            (-0.98, -0.34),
            (-0.34, -0.34),
        ]),
        Shape::Arrow => polygon(&[
            (1.05, 0.0),
            (0.1, -0.86),
            (0.1, -0.36),
            (-0.98, -0.36),
            (-0.98, 0.36),
            (0.1, 0.36),
            (0.1, 0.86),
        ]),
        Shape::Tree => polygon(&[
            (0.0, -1.05),
            (0.66, -0.3),
            (0.4, -0.3),
            (0.96, 0.5),
            (0.22, 0.5),
            (0.22, 1.0),
            (-0.22, 1.0),
            (-0.22, 0.5),
            (-0.96, 0.5),
            (-0.4, -0.3),
            (-0.66, -0.3),
        ]),
        Shape::Heart => curve(|path| {
            path.move_to(0.0, 0.98);
            path.cubic_to(-0.6, 0.5, -1.0, 0.12, -1.0, -0.34);
            path.cubic_to(-1.0, -0.98, -0.2, -1.1, 0.0, -0.48);
            path.cubic_to(0.2, -1.1, 1.0, -0.98, 1.0, -0.34);
            path.cubic_to(1.0, 0.12, 0.6, 0.5, 0.0, 0.98);
        }),
        Shape::Moon => curve(|path| {
            path.move_to(0.3, -1.0);
            path.cubic_to(-1.25, -1.05, -1.25, 1.05, 0.3, 1.0);
            path.cubic_to(0.75, 0.98, 0.85, 0.78, 0.85, 0.72);
            path.cubic_to(-0.2, 0.9, -0.2, -0.9, 0.85, -0.72);
            path.cubic_to(0.85, -0.78, 0.75, -0.98, 0.3, -1.0);
        }),
    }
}

fn polygon(points: &[(f32, f32)]) -> Path {
    curve(|path| {
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 {
                path.move_to(x, y)
            } else {
                path.line_to(x, y)
            }
        }
    })
}

fn curve(trace: impl FnOnce(&mut PathBuilder)) -> Path {
    let mut path = PathBuilder::new();
    trace(&mut path);
    path.close();
    path.finish().expect("a fixed outline is a path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outline_fills_most_of_its_radius_and_stays_near_it() {
        for &shape in Shape::ALL {
            let bounds = of(shape).compute_tight_bounds().unwrap();
            assert!(
                bounds.left() >= -1.1 && bounds.right() <= 1.1,
                "{shape:?} {bounds:?}"
            );
            assert!(
                bounds.top() >= -1.1 && bounds.bottom() <= 1.1,
                "{shape:?} {bounds:?}"
            );
            assert!(
                bounds.width() > 1.3 && bounds.height() > 1.5,
                "{shape:?} {bounds:?}"
            );
        }
    }
}
