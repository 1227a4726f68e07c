//! Figures as SVG: panels one below the other, with lines, steps, bands and histograms on linear or logarithmic axes.
//!
//! ```
//! use evenkeel_bench::plot::{Axis, Color, Figure, Layer, Panel, Shape, bins};
//!
//! let late_ms = [0.2, 0.3, 0.3, 0.4, 7.0];
//! let panel = Panel::new(Axis::log("late (ms)"), Axis::log("packets"))
//!     .with(Layer::new("all calls", Color::Blue, Shape::Bars(bins::log(late_ms, 20))))
//!     .with(Layer::new("limit", Color::Red, Shape::Upright(5.0)));
//! let svg = Figure::new("How late packets leave", "five of them").with(panel).svg();
//! assert!(svg.starts_with("<svg"));
//! ```

mod axis;
pub mod bins;
mod svg;

pub use axis::{Axis, Scale};
pub use bins::Bar;

/// A figure: a title over panels.
#[derive(Clone, Debug)]
pub struct Figure {
    title: String,
    subtitle: String,
    panels: Vec<Panel>,
}

impl Figure {
    /// A figure without panels. Each line of the subtitle gets a line.
    #[must_use]
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), panels: Vec::new() }
    }

    /// Adds a panel below the others.
    #[must_use]
    pub fn with(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// The figure as an SVG document of its own.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::render(self)
    }
}

/// Two axes, and what is drawn between them.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    x: Axis,
    y: Axis,
    layers: Vec<Layer>,
}

impl Panel {
    /// An empty panel.
    #[must_use]
    pub fn new(x: Axis, y: Axis) -> Self {
        Self { title: String::new(), x, y, layers: Vec::new() }
    }

    /// Gives it a title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Draws something over what is there.
    #[must_use]
    pub fn with(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }
}

/// Something drawn in a panel.
#[derive(Clone, Debug)]
pub struct Layer {
    name: String,
    color: Color,
    shape: Shape,
}

impl Layer {
    /// `name` stands in the legend, or beside a rule; without one there is no entry.
    #[must_use]
    pub fn new(name: impl Into<String>, color: Color, shape: Shape) -> Self {
        Self { name: name.into(), color, shape }
    }
}

/// What a layer draws. Points go from left to right; what is not finite, or not above zero on a logarithmic axis, is
/// left out.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Points (x, y), joined.
    Line(Vec<(f64, f64)>),
    /// Points (x, y); each y holds until the next x.
    Step(Vec<(f64, f64)>),
    /// Columns (x, from y, to y), filled; drawn from one x to the next.
    Band(Vec<(f64, f64, f64)>),
    /// A histogram, filled.
    Bars(Vec<Bar>),
    /// A histogram as its outline, to be seen over another.
    Outline(Vec<Bar>),
    /// A dashed line across at this x, its name beside it.
    Upright(f64),
    /// A dashed line across at this y, its name beside it. It does not widen the axis.
    Level(f64),
}

/// Colours that are told apart by most eyes, and on paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// What the figure is about.
    Blue,
    /// What it is compared with.
    Orange,
    /// A third.
    Green,
    /// A fourth.
    Purple,
    /// What is there for orientation.
    Grey,
    /// Limits.
    Red,
}

impl Color {
    const fn code(self) -> &'static str {
        match self {
            Self::Blue => "#1b5fa8",
            Self::Orange => "#d97706",
            Self::Green => "#1a7f5a",
            Self::Purple => "#7b4ea3",
            Self::Grey => "#6b7280",
            Self::Red => "#c02b2b",
        }
    }
}
