//! A plot as SVG, readable on light and dark pages.

use std::fmt::Write as _;

pub(crate) struct Line {
    pub(crate) label: &'static str,
    /// Sessions, and microseconds.
    pub(crate) points: Vec<(u64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Draws costs by the logarithm of the number of sessions.
pub(crate) fn costs(lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let exponents = || points().map(|(sessions, _)| (*sessions as f64).log10());
    let low = exponents().fold(f64::MAX, f64::min);
    let high = exponents().fold(f64::MIN, f64::max);
    let most = points().map(|(_, cost)| *cost).fold(0.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let x = |exponent: f64| LEFT + (exponent - low) / (high - low).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |cost: f64| HEIGHT - BOTTOM - cost / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n\
         <style>svg {{ color: #1f2328; --load: #0969da; --save: #bc4c00 }}\n\
         @media (prefers-color-scheme: dark) {{ svg {{ color: #e6edf3; --load: #58a6ff; --save: #f0883e }} }}</style>\n\
         <text x=\"{LEFT}\" y=\"20\" fill=\"currentColor\">CPU time of one operation, in microseconds, by the number of \
         sessions</text>\n"
    );
    let mut draw = |element: String| {
        svg.push_str(&element);
        svg.push('\n');
    };
    let mut cost = 0.0;
    while cost <= top {
        let y = y(cost);
        draw(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"currentColor\" opacity=\"0.2\"/>",
            WIDTH - RIGHT
        ));
        draw(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"currentColor\">{cost}</text>",
            LEFT - 8.0,
            y + 4.0
        ));
        cost += step;
    }
    for (sessions, _) in lines.first().map_or(&[][..], |line| &line.points) {
        draw(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"currentColor\">{}</text>",
            x((*sessions as f64).log10()),
            HEIGHT - BOTTOM + 22.0,
            crate::grouped(*sessions)
        ));
    }
    for Line { label, points } in lines {
        let mut path = String::new();
        for (sessions, cost) in points {
            let (x, y) = (x((*sessions as f64).log10()), y(*cost));
            // Writing to a string does not fail.
            let _ = write!(path, "{x:.1},{y:.1} ");
            draw(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"var(--{label})\"/>"));
        }
        let path = path.trim_end();
        draw(format!(
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"var(--{label})\" stroke-width=\"2\"/>"
        ));
        if let Some((sessions, cost)) = points.last() {
            draw(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"var(--{label})\">{label} {cost:.1}</text>",
                x((*sessions as f64).log10()) + 10.0,
                y(*cost) + 4.0
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The distance of two lines of the grid: 1, 2 or 5 times a power of ten, so that there are 4 to 10 of them.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 4.0).max(0.1).log10().floor());
    [5.0, 2.0].into_iter().map(|n| n * power).find(|step| most / step >= 4.0).unwrap_or(power)
}
