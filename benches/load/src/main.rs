//! Measures the servers of the benchmark side by side: `benches/run` builds and starts everything.
//!
//! Servers enter as processes; Markdown tables leave on stdout, progress on stderr. Each round measures each server once:
//! its plain handler, and right after that its routes with a session. A ratio is that of two neighbours; the table has
//! the median of the rounds, and in brackets the lowest and the highest.

mod http;
mod plot;
mod server;

use std::error::Error;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use crate::http::Cookies;
use crate::server::{Kind, SERVERS, Server};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Settings {
    rounds: usize,
    time: Duration,
    /// Only the rows that contain this text.
    only: String,
    plot: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let number = |name: &str, default: f64| match env::var(name) {
        Ok(value) => value.parse().map_err(|_| format!("{name} is {value:?}, and no number")),
        Err(_) => Ok(default),
    };
    let settings = Settings {
        rounds: number("ROUNDS", 9.0)? as usize,
        time: Duration::from_secs_f64(number("TIME", 0.5)?),
        only: env::var("ONLY").unwrap_or_default(),
        plot: env::var_os("PLOT").is_some(),
    };
    println!("{} rounds of {:?} for each figure.\n", settings.rounds, settings.time);
    over_http(&settings).await?;
    at_the_store(&settings)?;
    server::print_versions()
}

/// What one round has found of one route.
struct Figure {
    /// Requests per second, relative to the plain handler right before.
    ratio: f64,
    /// The same by CPU time: how many of the plain handler's requests the server could answer in the time of one.
    by_cpu: f64,
    /// CPU seconds of the server per 100,000 requests.
    cpu: f64,
    /// The share of the time in which the server used its core, in percent.
    busy: f64,
    p50: f64,
    p99: f64,
}

async fn over_http(settings: &Settings) -> Result<()> {
    let rows: Vec<_> =
        SERVERS.iter().filter(|row| row.kind != Kind::Store && row.is_wanted(&settings.only)).collect();
    let mut running = Vec::new();
    for row in rows {
        let server = Server::start(row)?;
        let mut cookies = Cookies::create(server.address).await?;
        let mut routes = vec!["/plain", "/read", "/write"];
        if http::exists(server.address, "/update").await? {
            routes.push("/update");
        }
        for route in &routes {
            http::load(server.address, route, &mut cookies, settings.time / 5).await?;
        }
        let routes: Vec<(&str, Vec<Figure>)> = routes.into_iter().map(|route| (route, Vec::new())).collect();
        running.push((row, server, cookies, routes));
    }
    for round in 0..settings.rounds {
        for (row, server, cookies, routes) in &mut running {
            eprintln!("round {} of {}: {}", round + 1, settings.rounds, row.name);
            let mut plain = None;
            for (route, figures) in routes {
                let before = server.cpu()?;
                let load = http::load(server.address, route, cookies, settings.time).await?;
                let each = (server.cpu()? - before) / load.requests as f64;
                let (plain_per_second, plain_each) = *plain.get_or_insert((load.per_second, each));
                figures.push(Figure {
                    ratio: load.per_second / plain_per_second,
                    by_cpu: plain_each / each,
                    cpu: each * 100_000.0,
                    busy: each * load.per_second * 100.0,
                    p50: load.p50,
                    p99: load.p99,
                });
            }
            cookies.check(server.address).await.map_err(|error| format!("{}: {error}", row.name))?;
        }
    }
    println!("| server | route | ratio | ratio by CPU | CPU | busy | p50 | p99 |");
    println!("|{}", " --- |".repeat(8));
    for (row, _, _, routes) in &running {
        for (route, figures) in routes {
            let spread = |value: fn(&Figure) -> f64| {
                let (low, middle, high) = median(figures, value);
                format!("{middle:.2} ({low:.2}-{high:.2})")
            };
            let middle = |value: fn(&Figure) -> f64| median(figures, value).1;
            println!(
                "| {} | {route} | {} | {} | {:.2} | {:.0} % | {:.2} | {:.2} |",
                row.name,
                spread(|figure| figure.ratio),
                spread(|figure| figure.by_cpu),
                middle(|figure| figure.cpu),
                middle(|figure| figure.busy),
                middle(|figure| figure.p50),
                middle(|figure| figure.p99),
            );
        }
    }
    println!(
        "\nRatio: requests per second, relative to /plain of the same server. By CPU: CPU time of a request to /plain,"
    );
    println!(
        "relative to one to this route. CPU: seconds of the server per 100,000 requests. Busy: the share of the time in"
    );
    println!(
        "which the server used its core. Latencies in milliseconds. In brackets the lowest and the highest of the rounds.\n"
    );
    if settings.plot {
        let bars = running.iter().filter_map(|(row, _, _, routes)| {
            let ratio = |wanted: &str| {
                let (_, figures) = routes.iter().find(|(route, _)| *route == wanted)?;
                Some(median(figures, |figure| figure.by_cpu).1)
            };
            Some(plot::Bar { name: row.name, read: ratio("/read")?, write: ratio("/write")? })
        });
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance-peers.svg");
        fs::write(path, plot::ratios(&bars.collect::<Vec<_>>()))?;
    }
    Ok(())
}

fn at_the_store(settings: &Settings) -> Result<()> {
    let rows: Vec<_> =
        SERVERS.iter().filter(|row| row.kind != Kind::Http && row.is_wanted(&settings.only)).collect();
    // For each row and each of the four columns, the operations per second and the p99 of each round.
    let mut figures: Vec<[Vec<(f64, f64)>; 4]> = rows.iter().map(|_| Default::default()).collect();
    for round in 0..settings.rounds {
        for (row, figures) in rows.iter().zip(&mut figures) {
            eprintln!("round {} of {}, at the store: {}", round + 1, settings.rounds, row.name);
            for (figures, measured) in figures.iter_mut().zip(server::measure_store(row, settings.time)?) {
                figures.push(measured);
            }
        }
    }
    println!("| store | load, 1 client | p99 | load, 64 | p99 | save, 1 | p99 | save, 64 | p99 |");
    println!("|{}", " --- |".repeat(9));
    for (row, figures) in rows.iter().zip(&figures) {
        let mut line = format!("| {}", row.name);
        for figures in figures {
            let (low, middle, high) = median(figures, |(per_second, _)| *per_second);
            let p99 = median(figures, |(_, p99)| *p99).1;
            line.push_str(&format!(
                " | {} ({}-{}) | {:.3}",
                short(middle),
                short(low),
                short(high),
                p99 / 1_000.0
            ));
        }
        println!("{line} |");
    }
    println!("\nThousands of operations per second; p99 in milliseconds; 10,000 sessions, 2 threads.\n");
    Ok(())
}

fn short(per_second: f64) -> String {
    format!("{:.1}", per_second / 1_000.0)
}

/// The lowest, the median and the highest value.
fn median<T>(figures: &[T], value: impl Fn(&T) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = figures.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
