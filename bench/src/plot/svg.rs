//! The document.

use std::fmt::Write;

use super::axis::Ruler;
use super::{Bar, Color, Figure, Layer, Panel, Shape};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 28.0;
const HEAD: f64 = 56.0;
const SUBTITLE: f64 = 18.0;
/// Of a panel: its title and legend, what is drawn, and numbers with the label below.
const ABOVE: f64 = 34.0;
const INSIDE: f64 = 230.0;
const BELOW: f64 = 58.0;

const STYLE: &str = "text{font-family:Inter,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;fill:#1f2933}\
.title{font-size:20px;font-weight:600}.sub{font-size:13px;fill:#52606d}.panel{font-size:14px;font-weight:600}\
.label{font-size:12.5px;fill:#3e4c59}.tick{font-size:11.5px;fill:#52606d}.key{font-size:12.5px}\
.rule{font-size:11.5px;font-weight:600}";

pub(super) fn render(figure: &Figure) -> String {
    let head = HEAD + SUBTITLE * figure.subtitle.lines().count() as f64;
    let height = head + figure.panels.len() as f64 * (ABOVE + INSIDE + BELOW);
    let mut out = Out(String::new());
    out.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title><style>{STYLE}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        escape(&figure.title)
    ));
    out.text("title", LEFT, 34.0, "start", &figure.title);
    for (index, line) in figure.subtitle.lines().enumerate() {
        out.text("sub", LEFT, 55.0 + SUBTITLE * index as f64, "start", line);
    }
    for (index, panel) in figure.panels.iter().enumerate() {
        draw(&mut out, panel, head + index as f64 * (ABOVE + INSIDE + BELOW) + ABOVE);
    }
    out.0.push_str("</svg>\n");
    out.0
}

/// A panel whose drawing begins at `top`.
fn draw(out: &mut Out, panel: &Panel, top: f64) {
    let width = WIDTH - LEFT - RIGHT;
    let x = panel.x.lay_tight(panel.layers.iter().flat_map(xs), width);
    let y = panel.y.lay(panel.layers.iter().flat_map(ys), INSIDE);
    let frame = Frame { x, y, panel, top };
    out.text("panel", LEFT, top - 14.0, "start", &panel.title);
    frame.axes(out);
    panel.layers.iter().for_each(|layer| frame.layer(out, layer));
    frame.rules(out);
    frame.legend(out);
}

fn xs(layer: &Layer) -> Vec<f64> {
    match &layer.shape {
        Shape::Line(points) | Shape::Step(points) => points.iter().map(|p| p.0).collect(),
        Shape::Band(columns) => columns.iter().map(|c| c.0).collect(),
        Shape::Bars(bars) | Shape::Outline(bars) => bars.iter().flat_map(|bar| [bar.from, bar.to]).collect(),
        Shape::Upright(at) => vec![*at],
        Shape::Level(_) => Vec::new(),
    }
}

fn ys(layer: &Layer) -> Vec<f64> {
    match &layer.shape {
        Shape::Line(points) | Shape::Step(points) => points.iter().map(|p| p.1).collect(),
        Shape::Band(columns) => columns.iter().flat_map(|c| [c.1, c.2]).collect(),
        // A bar of one is to be seen on a logarithmic axis too.
        Shape::Bars(bars) | Shape::Outline(bars) => {
            bars.iter().flat_map(|bar| [bar.height, bar.height.min(0.6)]).collect()
        }
        Shape::Upright(_) | Shape::Level(_) => Vec::new(),
    }
}

struct Frame<'a> {
    x: Ruler,
    y: Ruler,
    panel: &'a Panel,
    top: f64,
}

impl Frame<'_> {
    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.place(value)
    }

    fn up(&self, value: f64) -> f64 {
        self.top + INSIDE - self.y.place(value)
    }

    fn axes(&self, out: &mut Out) {
        let (bottom, right) = (self.top + INSIDE, WIDTH - RIGHT);
        for tick in self.y.ticks(34.0) {
            let at = self.up(tick.value);
            let shade = if tick.text.is_empty() { "#f3f5f7" } else { "#e1e6eb" };
            out.line((LEFT, at), (right, at), shade, "");
            out.text("tick", LEFT - 8.0, at + 4.0, "end", &tick.text);
        }
        for tick in self.x.ticks(70.0) {
            let at = self.across(tick.value);
            let shade = if tick.text.is_empty() { "#f3f5f7" } else { "#e1e6eb" };
            out.line((at, self.top), (at, bottom), shade, "");
            let length = if tick.text.is_empty() { 3.0 } else { 5.0 };
            out.line((at, bottom), (at, bottom + length), "#9aa5b1", "");
            out.text("tick", at, bottom + 19.0, "middle", &tick.text);
        }
        out.line((LEFT, bottom), (right, bottom), "#7b8794", "");
        out.text("label", f64::midpoint(LEFT, right), bottom + 39.0, "middle", &self.panel.x.label);
        let (at, label) = (self.top + INSIDE / 2.0, escape(&self.panel.y.label));
        out.put(format_args!(
            "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(20 {at:.1}) rotate(-90)\">{label}</text>"
        ));
    }

    fn layer(&self, out: &mut Out, layer: &Layer) {
        let color = layer.color.code();
        match &layer.shape {
            Shape::Line(points) => {
                let path =
                    self.path(points, |frame, point, _| vec![(frame.across(point.0), frame.up(point.1))]);
                out.path(&path, "none", color, 1.6);
            }
            Shape::Step(points) => {
                let path = self.path(points, |frame, point, next| {
                    let (x, y) = (frame.across(point.0), frame.up(point.1));
                    let end = next.map_or(x, |next| frame.across(next.0));
                    vec![(x, y), (end, y)]
                });
                out.path(&path, "none", color, 1.6);
            }
            Shape::Band(columns) => out.path(&self.band(columns), color, "none", 0.0),
            Shape::Bars(bars) => out.path(&self.bars(bars), color, color, 0.6),
            Shape::Outline(bars) => out.path(&self.outline(bars), "none", color, 1.6),
            Shape::Upright(_) | Shape::Level(_) => {}
        }
    }

    fn path<'p>(
        &self,
        points: &'p [(f64, f64)],
        corners: impl Fn(&Self, (f64, f64), Option<&'p (f64, f64)>) -> Vec<(f64, f64)>,
    ) -> String {
        let mut path = String::new();
        let mut is_down = false;
        for (i, &point) in points.iter().enumerate() {
            if !self.panel.x.takes(point.0) || !self.panel.y.takes(point.1) {
                is_down = false;
                continue;
            }
            for (x, y) in corners(self, point, points.get(i + 1)) {
                let _ = write!(path, "{}{x:.1} {y:.1}", if is_down { 'L' } else { 'M' });
                is_down = true;
            }
        }
        path
    }

    fn bars(&self, bars: &[Bar]) -> String {
        let bottom = self.top + INSIDE;
        let mut path = String::new();
        for bar in bars.iter().filter(|bar| self.panel.y.takes(bar.height)) {
            let (left, right, top) = (self.across(bar.from), self.across(bar.to), self.up(bar.height));
            let _ = write!(path, "M{left:.1} {bottom:.1}V{top:.1}H{right:.1}V{bottom:.1}Z");
        }
        path
    }

    /// Around bars that touch, down to the axis where they do not.
    fn outline(&self, bars: &[Bar]) -> String {
        let bottom = self.top + INSIDE;
        let mut path = String::new();
        let mut last_right = f64::NEG_INFINITY;
        for bar in bars.iter().filter(|bar| self.panel.y.takes(bar.height)) {
            let (left, right, top) = (self.across(bar.from), self.across(bar.to), self.up(bar.height));
            if left - last_right > 0.1 {
                let down = if path.is_empty() { String::new() } else { format!("V{bottom:.1}") };
                let _ = write!(path, "{down}M{left:.1} {bottom:.1}");
            }
            let _ = write!(path, "V{top:.1}H{right:.1}");
            last_right = right;
        }
        if !path.is_empty() {
            let _ = write!(path, "V{bottom:.1}");
        }
        path
    }

    /// Every column as a rectangle that reaches to the next, and is a pixel high at least.
    fn band(&self, columns: &[(f64, f64, f64)]) -> String {
        let mut path = String::new();
        let usual = columns.windows(2).map(|pair| pair[1].0 - pair[0].0).next().unwrap_or(1.0);
        for (i, &(x, low, high)) in columns.iter().enumerate() {
            if [low, high].iter().all(|&value| self.panel.y.takes(value)) && self.panel.x.takes(x) {
                let left = self.across(x);
                let right = self.across(columns.get(i + 1).map_or(x + usual, |next| next.0));
                let (bottom, top) = (self.up(low), self.up(high).min(self.up(low) - 1.0));
                let _ = write!(path, "M{left:.1} {bottom:.1}V{top:.1}H{right:.1}V{bottom:.1}Z");
            }
        }
        path
    }

    /// Names of upright rules stand one below the other where they would touch.
    fn rules(&self, out: &mut Out) {
        let mut uprights: Vec<_> = self
            .panel
            .layers
            .iter()
            .filter_map(|l| match l.shape {
                Shape::Upright(at) if self.panel.x.takes(at) => Some((self.across(at), l)),
                _ => None,
            })
            .collect();
        uprights.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut last_end, mut row) = (f64::NEG_INFINITY, 0.0);
        for (at, layer) in uprights {
            out.line((at, self.top), (at, self.top + INSIDE), layer.color.code(), "4 3");
            row = if at < last_end { row + 1.0 } else { 0.0 };
            let length = width(&layer.name, 12.5) + 10.0;
            last_end = last_end.max(at + length);
            let is_near_the_end = at + length > WIDTH - RIGHT;
            let (anchor, x) = if is_near_the_end { ("end", at - 5.0) } else { ("start", at + 5.0) };
            out.halo(layer.color, x, self.top + 13.0 + 15.0 * row, anchor, &layer.name);
        }
        for layer in &self.panel.layers {
            if let Shape::Level(value) = layer.shape
                && self.panel.y.takes(value)
                && (self.y.low..=self.y.high).contains(&value)
            {
                let at = self.up(value);
                out.line((LEFT, at), (WIDTH - RIGHT, at), layer.color.code(), "4 3");
                let beside = if at - self.top < 16.0 { at + 14.0 } else { at - 5.0 };
                out.halo(layer.color, WIDTH - RIGHT - 5.0, beside, "end", &layer.name);
            }
        }
    }

    fn legend(&self, out: &mut Out) {
        let mut right = WIDTH - RIGHT;
        let has_key =
            |l: &&Layer| !l.name.is_empty() && !matches!(l.shape, Shape::Upright(_) | Shape::Level(_));
        for layer in self.panel.layers.iter().filter(has_key).rev() {
            let y = self.top - 14.0;
            out.text("key", right, y, "end", &layer.name);
            right -= width(&layer.name, 12.5) + 20.0;
            let (color, opacity) = (layer.color.code(), opacity(&layer.shape));
            let (height, top) = match layer.shape {
                Shape::Line(_) | Shape::Step(_) | Shape::Outline(_) => (2.5, y - 5.5),
                _ => (10.0, y - 9.5),
            };
            out.put(format_args!(
                "<rect x=\"{right:.1}\" y=\"{top:.1}\" width=\"14\" height=\"{height}\" fill=\"{color}\" \
                 fill-opacity=\"{opacity}\"/>"
            ));
            right -= 18.0;
        }
    }
}

fn opacity(shape: &Shape) -> f64 {
    match shape {
        Shape::Band(_) => BAND,
        Shape::Bars(_) => BARS,
        _ => 1.0,
    }
}

const BAND: f64 = 0.28;
const BARS: f64 = 0.45;

struct Out(String);

impl Out {
    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = self.0.write_fmt(what);
        self.0.push('\n');
    }

    fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        if !text.is_empty() {
            let text = escape(text);
            self.put(format_args!(
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
            ));
        }
    }

    /// A rule's name, readable over whatever is drawn.
    fn halo(&mut self, color: Color, x: f64, y: f64, anchor: &str, text: &str) {
        let (color, text) = (color.code(), escape(text));
        self.put(format_args!(
            "<text class=\"rule\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" style=\"fill:{color};stroke:#fff;\
             stroke-width:3px;stroke-linejoin:round;paint-order:stroke\">{text}</text>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, dashes: &str) {
        let dashes =
            if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
        self.put(format_args!(
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{color}\"{dashes}/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn path(&mut self, path: &str, fill: &str, stroke: &str, width: f64) {
        let opacity = if fill == "none" {
            1.0
        } else if stroke == "none" {
            BAND
        } else {
            BARS
        };
        self.put(format_args!(
            "<path d=\"{path}\" fill=\"{fill}\" fill-opacity=\"{opacity}\" stroke=\"{stroke}\" \
             stroke-width=\"{width}\" stroke-linejoin=\"round\"/>"
        ));
    }
}

/// About how wide a text is, in letters of this size: a renderer's fonts are not known.
fn width(text: &str, size: f64) -> f64 {
    let letter = |letter| match letter {
        'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.32,
        't' | 'f' | 'r' | '(' | ')' | '-' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' => 0.92,
        _ => 0.61,
    };
    text.chars().map(letter).sum::<f64>() * size
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
