//! Plots as SVG and PNG: how latencies are spread, and what loss makes of them and of streams.
//!
//! Letters are of a font in this program: what is drawn is the same on every machine.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use adit_bench::workload::Workload;
use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::lab::{Merged, Plan, Point, Sample, Variant, title};

/// In pixels.
const SIZE: (u32, u32) = (900, 540);

const FONT: &str = "sans-serif";

/// Told apart by people who see no red or no green, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The distribution is drawn up to this quantile, if there are calls enough.
const HIGHEST: f64 = 0.9999;

/// One that was drawn: its files are `name.svg` and `name.png`.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) name: String,
    pub(super) title: String,
}

/// Lines in a plane.
struct Lines {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
}

struct Axis {
    name: &'static str,
    logarithmic: bool,
    /// Where it is not: how far it goes, in highest values. Names of lines stand above them.
    room: f64,
    label: fn(f64) -> String,
}

struct Line {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
    dots: bool,
}

/// Draws everything into `out`.
pub(super) fn draw(out: &Path, plan: &Plan, samples: &[Sample]) -> anyhow::Result<Vec<Plot>> {
    font()?;
    let mut plots = Vec::new();
    let mut draw = |name: String, lines: Lines| {
        // A line needs something to be drawn between.
        if lines.lines.iter().any(|line| !line.points.is_empty()) {
            lines.draw(out, &name)?;
            plots.push(Plot {
                name,
                title: lines.title,
            });
        }
        anyhow::Ok(())
    };
    for &rtt in &plan.rtts {
        for &load in &plan.loads {
            let at = |variant: &Variant, loss| {
                let point = Point {
                    variant: variant.clone(),
                    load,
                    loss,
                    rtt,
                };
                Merged::of(&point, samples)
            };
            let place = format!("{} ms", rtt.as_millis());
            let file = format!("{}-{}ms", load.to_string().replace(':', "-"), rtt.as_millis());
            let by_loss = |what: &str, unit, of: &dyn Fn(&Merged) -> f64| {
                let mut lines = Vec::new();
                for (variant, colour) in plan.variants.iter().zip(COLOURS.iter().cycle()) {
                    let mut points = Vec::new();
                    for &loss in &plan.losses {
                        points.extend(at(variant, loss)?.map(|merged| (loss, of(&merged))));
                    }
                    lines.push(Line::new(variant, *colour, points, true));
                }
                anyhow::Ok(Lines {
                    title: format!("{}, {place}: {what} by loss", title(load)),
                    x: LOSS,
                    y: unit,
                    lines,
                })
            };
            if load.has_calls() {
                for (what, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                    let lines = by_loss(what, LATENCY, &|merged| merged.milliseconds(quantile))?;
                    draw(format!("{file}-{what}-by-loss"), lines)?;
                }
                for &loss in &plan.losses {
                    let mut lines = Vec::new();
                    for (variant, colour) in plan.variants.iter().zip(COLOURS.iter().cycle()) {
                        let points = at(variant, loss)?.map(|merged| distribution(&merged));
                        lines.push(Line::new(variant, *colour, points.unwrap_or_default(), false));
                    }
                    let lines = Lines {
                        title: format!("{}, {place}, {loss} % loss", title(load)),
                        x: QUANTILE,
                        y: LATENCY,
                        lines,
                    };
                    draw(format!("{file}-loss-{loss}"), lines)?;
                }
            }
            if load.has_stream() {
                let lines = by_loss("throughput", THROUGHPUT, &|merged| merged.megabytes)?;
                draw(format!("{file}-throughput-by-loss"), lines)?;
            } else if matches!(load, Workload::Closed(_)) {
                let lines = by_loss("calls/s", CALLS, &|merged| merged.calls_a_second)?;
                draw(format!("{file}-throughput-by-loss"), lines)?;
            }
        }
    }
    Ok(plots)
}

const LOSS: Axis = Axis {
    name: "packets lost each way, %",
    logarithmic: false,
    room: 1.1,
    label: plain,
};

const LATENCY: Axis = Axis {
    name: "latency, ms",
    logarithmic: true,
    room: 1.0,
    label: plain,
};

const THROUGHPUT: Axis = Axis {
    name: "stream, MB/s",
    logarithmic: false,
    room: 1.4,
    label: plain,
};

const CALLS: Axis = Axis {
    name: "calls/s",
    logarithmic: false,
    room: 1.4,
    label: plain,
};

/// One of how many calls is slower: each further nine is as wide as the one before.
const QUANTILE: Axis = Axis {
    name: "calls that were not slower",
    logarithmic: true,
    room: 1.0,
    label: share,
};

fn plain(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

fn share(one_of: f64) -> String {
    format!("{} %", (100.0 * (1.0 - 1.0 / one_of) * 1e4).round() / 1e4)
}

#[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
fn distribution(merged: &Merged) -> Vec<(f64, f64)> {
    let calls = merged.latency.count() as f64;
    let mut points = Vec::new();
    let mut one_of = 1.0_f64;
    while one_of <= calls && 1.0 - 1.0 / one_of <= HIGHEST {
        points.push((one_of, merged.milliseconds(1.0 - 1.0 / one_of)));
        one_of *= 1.05;
    }
    points
}

impl Line {
    fn new(variant: &Variant, colour: RGBColor, points: Vec<(f64, f64)>, dots: bool) -> Self {
        let drawable = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        Self {
            name: variant.to_string(),
            colour,
            points: points.into_iter().filter(drawable).collect(),
            dots,
        }
    }
}

impl Lines {
    fn draw(&self, out: &Path, name: &str) -> anyhow::Result<()> {
        // A loss of 0.1 has a dot in its name.
        let [svg, png] = ["svg", "png"].map(|kind| out.join(format!("{name}.{kind}")));
        let drawn = self.draw_on(&SVGBackend::new(&svg, SIZE).into_drawing_area());
        drawn.with_context(|| format!("cannot draw {}", svg.display()))?;
        let drawn = self.draw_on(&BitMapBackend::new(&png, SIZE).into_drawing_area());
        drawn.with_context(|| format!("cannot draw {}", png.display()))
    }

    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> anyhow::Result<()> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (x, y) = (
            self.x.range(points().map(|(x, _)| *x)),
            self.y.range(points().map(|(_, y)| *y)),
        );
        area.fill(&WHITE).map_err(undrawn)?;
        let mut chart = ChartBuilder::on(area);
        chart
            .caption(&self.title, (FONT, 20))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(70);
        // Scales are types, so that each pair of them is a case of its own.
        match (self.x.logarithmic, self.y.logarithmic) {
            (false, false) => self.fill(&mut chart.build_cartesian_2d(x, y).map_err(undrawn)?),
            (false, true) => self.fill(&mut chart.build_cartesian_2d(x, y.log_scale()).map_err(undrawn)?),
            (true, false) => self.fill(&mut chart.build_cartesian_2d(x.log_scale(), y).map_err(undrawn)?),
            (true, true) => self.fill(
                &mut chart
                    .build_cartesian_2d(x.log_scale(), y.log_scale())
                    .map_err(undrawn)?,
            ),
        }?;
        area.present().map_err(undrawn)
    }

    fn fill<'a, B, X, Y>(&self, chart: &mut ChartContext<'a, B, Cartesian2d<X, Y>>) -> anyhow::Result<()>
    where
        B: DrawingBackend + 'a,
        X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 16))
            .x_label_formatter(&|value| (self.x.label)(*value))
            .y_label_formatter(&|value| (self.y.label)(*value))
            .light_line_style(WHITE)
            .draw()
            .map_err(undrawn)?;
        for line in &self.lines {
            let colour = line.colour;
            let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(series)
                .map_err(undrawn)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
            if line.dots {
                let dots = line
                    .points
                    .iter()
                    .map(|point| Circle::new(*point, 4, colour.filled()));
                chart.draw_series(dots).map_err(undrawn)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 14))
            .draw()
            .map_err(undrawn)
    }
}

impl Axis {
    /// All of the values, with some room, and never nothing.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
        let lowest = values.clone().fold(f64::INFINITY, f64::min);
        let highest = values.fold(f64::NEG_INFINITY, f64::max);
        if self.logarithmic {
            let lowest = lowest.max(1e-3);
            return round_below(lowest)..round_above(highest.max(lowest));
        }
        0.0..if highest > 0.0 { highest * self.room } else { 1.0 }
    }
}

/// Numbers that have a label: one, two or five, times a power of ten.
fn round_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|step| step * power);
    steps.into_iter().find(|step| *step <= value).unwrap_or(power)
}

fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step > value)
        .unwrap_or(10.0 * power)
}

#[expect(clippy::needless_pass_by_value, reason = "as what maps errors hands them on")]
fn undrawn<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("{error}")
}

/// Once for all plots.
fn font() -> anyhow::Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok()
    });
    anyhow::ensure!(registered, "the letters of the plots cannot be read");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn axes_end_where_they_have_labels() {
        let ends = |values: [f64; 2]| {
            let range = LATENCY.range(values.into_iter());
            (range.start, range.end)
        };
        assert_eq!(ends([46.0, 54.0]), (20.0, 100.0));
        assert_eq!(ends([100.0, 1412.0]), (100.0, 2000.0));
        assert_eq!(ends([2.0, 5.0]), (2.0, 10.0));
        assert_eq!(THROUGHPUT.range([0.0, 0.0].into_iter()), 0.0..1.0);
        assert_eq!(share(100.0), "99 %");
        assert_eq!(share(1.0), "0 %");
    }

    #[test]
    fn lines_are_drawn_as_both_kinds_of_picture() {
        font().unwrap();
        let out = tempfile::tempdir().unwrap();
        let variants = ["quic/bounded", "websocket/cubic"];
        let lines = variants.iter().zip(COLOURS).map(|(name, colour)| {
            let points = vec![(0.0, 41.5), (1.0, 4_114.0), (5.0, f64::NAN)];
            Line::new(&name.parse().unwrap(), colour, points, true)
        });
        let lines = Lines {
            title: "Latency by loss".to_owned(),
            x: LOSS,
            y: LATENCY,
            lines: lines.collect(),
        };
        lines.draw(out.path(), "plot-1").unwrap();
        let svg = std::fs::read_to_string(out.path().join("plot-1.svg")).unwrap();
        assert!(variants.iter().all(|name| svg.contains(name)), "{svg}");
        let png = std::fs::read(out.path().join("plot-1.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
    }
}
