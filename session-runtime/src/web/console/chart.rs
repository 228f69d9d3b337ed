//! Charts: numbers enter, SVG leaves. Colours are in the style sheet; lines differ in their dashes too.

use std::fmt;

use super::html::Text;

/// The size of a drawing, and of the plot within it, in units of the view box.
const WIDTH: u64 = 360;
const HEIGHT: u64 = 150;
const LEFT: u64 = 40;
const TOP: u64 = 10;
const PLOT_WIDTH: u64 = 300;
const PLOT_HEIGHT: u64 = 115;

/// How many times are written below the plot.
const LABELS: usize = 5;

/// Up to four lines over the same time.
pub(super) struct Chart<'a> {
    /// The name that the parts of the page refer to.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The time of each point, in minutes since the unix epoch.
    pub(super) times: &'a [u32],
    pub(super) lines: Vec<Line<'a>>,
}

/// The points of a line; `None` where nothing is known.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) meaning: Meaning,
    pub(super) points: Vec<Option<u64>>,
}

/// What the numbers of a line are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// How many there were at that time.
    Level,
    /// How many there were in that interval.
    Events,
}

impl Line<'_> {
    fn known(&self) -> impl Iterator<Item = (usize, u64)> {
        self.points.iter().enumerate().filter_map(|(place, point)| Some((place, (*point)?)))
    }

    /// Returns the number beside the name: the level now, or the sum of events.
    fn number(&self) -> Option<u64> {
        match self.meaning {
            // The last point may be yet to come.
            Meaning::Level => self.points.iter().rev().take(2).copied().flatten().next(),
            Meaning::Events => Some(self.known().map(|(_, value)| value).fold(0, u64::saturating_add)),
        }
    }

    /// Says in words what the line shows.
    fn description(&self) -> String {
        let (name, highest) = (self.name, self.known().map(|(_, value)| value).max());
        match (self.meaning, self.number(), highest) {
            (Meaning::Level, last, Some(highest)) => {
                let lowest = self.known().map(|(_, value)| value).min().unwrap_or(highest);
                let last = last.map_or_else(|| "not known".to_owned(), |last| last.to_string());
                format!("{name}: {last} at the end, between {lowest} and {highest}.")
            }
            (Meaning::Events, Some(sum), Some(highest)) => {
                format!("{name}: {sum} in all, at most {highest} in one interval.")
            }
            _ => format!("{name}: not known."),
        }
    }
}

impl Chart<'_> {
    /// Returns the place of a point on the page, in tenths.
    fn place(&self, place: usize, value: u64, top: u64) -> (u64, u64) {
        let last = self.times.len().saturating_sub(1).max(1) as u64;
        let x = 10 * LEFT + 10 * PLOT_WIDTH * place as u64 / last;
        let y = 10 * (TOP + PLOT_HEIGHT) - (10 * PLOT_HEIGHT).saturating_mul(value) / top;
        (x, y)
    }
}

/// Returns the number at the top of the axis: 1, or 2, 4 or 10 times a power of ten.
fn top(highest: u64) -> u64 {
    if highest <= 1 {
        return 1;
    }
    let mut scale = 1_u64;
    loop {
        let steps = [2, 4, 10].map(|step| scale.saturating_mul(step));
        if let Some(top) = steps.into_iter().find(|top| *top >= highest) {
            return top;
        }
        scale = scale.saturating_mul(10);
    }
}

/// A round number in few characters.
struct Round(u64);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number if number >= 1_000_000 && number.is_multiple_of(1_000_000) => {
                write!(f, "{}M", number / 1_000_000)
            }
            number if number >= 10_000 && number.is_multiple_of(1_000) => write!(f, "{}k", number / 1_000),
            number => number.fmt(f),
        }
    }
}

/// A number in tenths.
struct Tenths(u64);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// The time of day of a minute, in UTC.
pub(super) struct TimeOfDay(pub(super) u32);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = self.0 % 1_440;
        write!(f, "{:02}:{:02}", minute / 60, minute % 60)
    }
}

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, title, times, lines } = self;
        let highest = lines.iter().flat_map(Line::known).map(|(_, value)| value).max();
        let top = top(highest.unwrap_or(0));
        write!(f, "<figure class=\"card chart\"><figcaption><h2>{}</h2><p>", Text(title))?;
        for (place, line) in lines.iter().enumerate() {
            write!(f, "<span class=\"key key-{place}\">{}", Text(line.name))?;
            if let Some(number) = line.number() {
                write!(f, " <strong>{number}</strong>")?;
            }
            f.write_str("</span> ")?;
        }
        write!(
            f,
            "</p></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">",
            Text(title)
        )?;
        for line in lines {
            write!(f, "{} ", Text(&line.description()))?;
        }
        f.write_str("</desc>")?;
        let right = LEFT + PLOT_WIDTH;
        let halves = [Some(0), top.is_multiple_of(2).then_some(top / 2), Some(top)];
        for value in halves.into_iter().flatten() {
            let (_, y) = self.place(0, value, top);
            let (line, base) = (Tenths(y), Tenths(y + 35));
            write!(f, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{line}\" y2=\"{line}\"/>")?;
            write!(f, "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>", LEFT - 6, Round(value))?;
        }
        for label in 0..LABELS {
            let place = times.len().saturating_sub(1) * label / (LABELS - 1);
            let Some(time) = times.get(place) else { continue };
            let (x, _) = self.place(place, 0, top);
            let y = HEIGHT - 6;
            write!(
                f,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                Tenths(x),
                TimeOfDay(*time)
            )?;
        }
        for (number, line) in lines.iter().enumerate() {
            // No line goes over what is not known.
            for known in
                line.points.iter().enumerate().collect::<Vec<_>>().split(|(_, point)| point.is_none())
            {
                let points: Vec<_> =
                    known.iter().filter_map(|(place, point)| Some((*place, (**point)?))).collect();
                let Some(&(place, value)) = points.last() else { continue };
                write!(f, "<polyline class=\"line line-{number}\" points=\"")?;
                for (place, value) in &points {
                    let (x, y) = self.place(*place, *value, top);
                    write!(f, "{},{} ", Tenths(x), Tenths(y))?;
                }
                let (x, y) = self.place(place, value, top);
                let (x, y) = (Tenths(x), Tenths(y));
                write!(f, "\"/><circle class=\"dot dot-{number}\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>")?;
            }
        }
        f.write_str("</svg></figure>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number_above_all() {
        let tops: Vec<_> = [0, 1, 2, 3, 4, 5, 11, 39, 41, 100, 101].map(top).to_vec();
        assert_eq!(tops, [1, 1, 2, 4, 4, 10, 20, 40, 100, 100, 200]);
        assert_eq!(top(u64::MAX), u64::MAX);
        let shown =
            [0, 5, 5_000, 10_000, 200_000, 1_000_000, 40_000_000].map(|number| Round(number).to_string());
        assert_eq!(shown, ["0", "5", "5000", "10k", "200k", "1M", "40M"]);
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let times: Vec<_> = (0..60).collect();
        let mut points = vec![Some(0); 60];
        (points[3], points[59]) = (Some(3), Some(1));
        let events = Line { name: "created", meaning: Meaning::Events, points };
        let mut points = vec![None; 60];
        points[30] = Some(u64::MAX);
        let level = Line { name: "live", meaning: Meaning::Level, points };
        let unknown = Line { name: "unknown", meaning: Meaning::Level, points: vec![None; 60] };
        let chart = Chart { id: "a", title: "A & B", times: &times, lines: vec![events, level, unknown] };
        let svg = chart.to_string();
        for part in [
            "<title id=\"a-title\">A &amp; B</title>",
            "created: 4 in all, at most 3 in one interval.",
            "live: not known at the end, between 18446744073709551615 and 18446744073709551615.",
            "unknown: not known.",
            ">00:59</text>",
        ] {
            assert!(svg.contains(part), "{part} is missing: {svg}");
        }
        let gap = [Some(1), Some(1), None, Some(2), None, None].to_vec();
        let gap = Line { name: "gap", meaning: Meaning::Level, points: gap };
        let chart = Chart { id: "a", title: "A", times: &[0, 1, 2, 3, 4, 5], lines: vec![gap] };
        let drawn: Vec<_> =
            chart.to_string().split(" points=\"").skip(1).map(|line| line.split(' ').count()).collect();
        assert!(drawn.len() == 2, "what is known before the gap, and after: {drawn:?}");
        let empty = Chart { id: "a", title: "A", times: &[], lines: Vec::new() };
        assert!(empty.to_string().ends_with("</svg></figure>"));
    }

    #[test]
    fn every_point_is_within_the_plot() {
        let times: Vec<_> = (0..96).collect();
        let chart = Chart { id: "a", title: "A", times: &times, lines: Vec::new() };
        for value in [0, 1, 7, 10, u64::MAX] {
            for place in [0, 50, 95] {
                let (x, y) = chart.place(place, value, top(value));
                assert!((10 * LEFT..=10 * (LEFT + PLOT_WIDTH)).contains(&x), "{x}");
                assert!((10 * TOP..=10 * (TOP + PLOT_HEIGHT)).contains(&y), "{y}");
            }
        }
    }
}
