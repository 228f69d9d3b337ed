//! A bar chart as SVG, readable on light and dark pages.

pub(crate) struct Bar<'a> {
    pub(crate) name: &'a str,
    pub(crate) read: f64,
    pub(crate) write: f64,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 320.0;
const RIGHT: f64 = 50.0;
const TOP: f64 = 60.0;
const ROW: f64 = 34.0;
const BAR: f64 = 13.0;

/// Draws the ratios of each server, in the order given.
pub(crate) fn ratios(bars: &[Bar<'_>]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 10.0;
    let most = bars.iter().map(|bar| bar.read.max(bar.write)).fold(0.0, f64::max);
    let length = |ratio: f64| ratio / most * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n\
         <style>svg {{ color: #1f2328; --read: #0969da; --write: #bc4c00 }}\n\
         @media (prefers-color-scheme: dark) {{ svg {{ color: #e6edf3; --read: #58a6ff; --write: #f0883e }} }}</style>\n\
         <text x=\"10\" y=\"20\" fill=\"currentColor\">CPU time of a request to /plain, divided by that of one with a session: longer is \
         better</text>\n\
         <text x=\"{LEFT}\" y=\"44\" fill=\"var(--read)\">/read</text>\n\
         <text x=\"{}\" y=\"44\" fill=\"var(--write)\">/write</text>\n",
        LEFT + 50.0
    );
    for (n, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * n as f64;
        let weight = if bar.name.starts_with("Databag") { "bold" } else { "normal" };
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-weight=\"{weight}\" fill=\"currentColor\">{}</text>\n",
            LEFT - 10.0,
            y + BAR + 4.0,
            bar.name
        ));
        for (y, ratio, color) in [(y, bar.read, "read"), (y + BAR + 1.0, bar.write, "write")] {
            let length = length(ratio);
            svg.push_str(&format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"var(--{color})\"/>\n\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"11\" fill=\"currentColor\">{ratio:.2}</text>\n",
                LEFT + length + 5.0,
                y + BAR - 2.5
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}
