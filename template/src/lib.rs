//! What the binaries share.

/// Lines over the same places, in percent, as an SVG picture for a browser or a paper.
///
/// `places` are written below the picture, from left to right; each line has a name and a value for every place.
pub fn chart(places: &[usize], lines: &[(&str, Vec<f64>)]) -> String {
    let point = |i: usize, value: f64| (40.0 + 90.0 * i as f64, 220.0 - 2.0 * value);
    let (right, _) = point(places.len().max(1) - 1, 0.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {} 250' font-size='11'>\n",
        right + 80.0
    );
    for value in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let (left, y) = point(0, value);
        svg += &format!("<path d='M{left} {y}H{right}' stroke='#ddd'/>\n");
        svg += &format!("<text x='10' y='{}'>{value}</text>\n", y + 4.0);
    }
    for (i, place) in places.iter().enumerate() {
        svg += &format!("<text x='{}' y='240'>{place}</text>\n", point(i, 0.0).0);
    }
    for ((name, values), colour) in lines
        .iter()
        .zip(["#0969da", "#bc4c00", "#1a7f37"].iter().cycle())
    {
        let points: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(i, &value)| point(i, value))
            .collect();
        let path: String = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1} "))
            .collect();
        svg += &format!(
            "<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>\n"
        );
        if let Some((x, y)) = points.last() {
            svg += &format!(
                "<text x='{}' y='{y:.1}' fill='{colour}'>{name}</text>\n",
                x + 6.0
            );
        }
    }
    svg + "</svg>\n"
}
