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
    let colours = ["#0969da", "#bc4c00", "#1a7f37", "#8250df"];
    for (line, (name, values)) in lines.iter().enumerate() {
        let colour = colours[line % colours.len()];
        let path = values.iter().enumerate().map(|(i, &value)| {
            let (x, y) = point(i, value);
            format!("{x:.1},{y:.1} ")
        });
        svg += &format!(
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>\n",
            path.collect::<String>()
        );
        let (x, y) = (right + 10.0, 24 + 16 * line);
        svg += &format!("<text x='{x}' y='{y}' fill='{colour}'>{name}</text>\n");
    }
    svg + "</svg>\n"
}
