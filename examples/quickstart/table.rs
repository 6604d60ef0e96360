//! The table of results and times.

use crate::Trained;
use clip_burn::data::scenes::Scenes;
use clip_burn::eval::RunResult;
use maud::{Markup, html};
use std::time::{Duration, Instant};

/// Ranks of the retrieval metrics.
pub const RECALL_AT: [usize; 3] = [1, 5, 10];

/// Wall clock by phase.
pub struct Clock {
    last: Instant,
    laps: Vec<(String, Duration)>,
}

impl Clock {
    /// Starts the first phase.
    pub fn start() -> Self {
        Self {
            last: Instant::now(),
            laps: Vec::new(),
        }
    }

    /// Ends a phase.
    pub fn lap(&mut self, phase: String) {
        self.laps.push((phase, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// Metrics of all methods, with what guessing would give.
pub struct Table {
    methods: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    values: Vec<f64>,
    chance: f64,
}

impl Table {
    /// Collects what the methods reached.
    pub fn new(methods: &[Trained], world: &Scenes) -> Self {
        let names = methods.iter().map(|method| method.name).collect();
        let mut rows = Vec::new();
        let mut push = |dataset: &str, metric: &str, name: String, chance: f64| {
            let of = |result: &RunResult| result.dataset == dataset;
            let value = |m: &Trained| m.results.iter().find(|r| of(r))?.metric(metric);
            if let Some(values) = methods.iter().map(value).collect() {
                rows.push(Row {
                    name,
                    values,
                    chance,
                });
            }
        };
        for dataset in ["web_words", "synonyms"] {
            let name = format!("zero-shot accuracy, {}", dataset.replace('_', " "));
            push(dataset, "acc1", name, world.chance());
        }
        let results = methods.iter().flat_map(|method| &method.results);
        let details = results
            .filter(|result| result.dataset == "retrieval")
            .find_map(|result| result.details.as_ref());
        let (images, texts) = details.map_or((1, 5), |details| (details.images, details.texts));
        for k in RECALL_AT {
            let metric = format!("image_retrieval_recall@{k}");
            let name = format!("text → image, recall@{k}");
            push("retrieval", &metric, name, k as f64 / images as f64);
        }
        for k in RECALL_AT {
            let metric = format!("text_retrieval_recall@{k}");
            let name = format!("image → text, recall@{k}");
            push("retrieval", &metric, name, any_of_five(k, texts));
        }
        Self {
            methods: names,
            rows,
        }
    }

    /// Prints the table and the time of each phase.
    pub fn print(&self, clock: &Clock) {
        print!("{:<32}", "");
        self.methods.iter().for_each(|name| print!(" {name:>8}"));
        println!(" {:>8}", "chance");
        for row in &self.rows {
            print!("{:<32}", row.name);
            for value in row.values.iter().chain([&row.chance]) {
                print!(" {:>7.1}%", 100.0 * value);
            }
            println!();
        }
        println!();
        for (phase, time) in &clock.laps {
            println!("{phase:<32} {:>7.1}s", time.as_secs_f64());
        }
    }

    /// The same for the report.
    pub fn html(&self, clock: &Clock) -> Markup {
        html! {
            table {
                tr { th { "metric" } @for name in &self.methods { th { (name) } } th { "chance" } }
                @for row in &self.rows {
                    tr {
                        td { (row.name) }
                        @for value in row.values.iter().chain([&row.chance]) {
                            td { (format!("{:.1} %", 100.0 * value)) }
                        }
                    }
                }
            }
            table {
                tr { th { "phase" } th { "seconds" } }
                @for (phase, time) in &clock.laps {
                    tr { td { (phase) } td { (format!("{:.1}", time.as_secs_f64())) } }
                }
            }
        }
    }
}

/// Probability that `k` of `texts` captions drawn at random hold one of the five right ones.
fn any_of_five(k: usize, texts: usize) -> f64 {
    let miss: f64 = (0..5)
        .map(|i| texts.saturating_sub(k + i) as f64 / texts.saturating_sub(i) as f64)
        .product();
    1.0 - miss
}
