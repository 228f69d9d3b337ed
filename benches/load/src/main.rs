//! Measures the servers of the benchmark side by side: `benches/run` builds and starts everything.
//!
//! Servers enter as processes; Markdown tables leave on stdout, progress on stderr. Each round measures each server once:
//! its plain handler, and right after that its routes with a session. A ratio is that of two neighbours; the table has
//! the median of the rounds, and in brackets the lowest and the highest.

mod http;
mod server;

use std::env;
use std::error::Error;
use std::time::Duration;

use crate::http::Cookies;
use crate::server::{Kind, SERVERS, Server};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Settings {
    rounds: usize,
    time: Duration,
    /// Only the rows that contain this text.
    only: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let number = |name: &str, default: f64| match env::var(name) {
        Ok(value) => value.parse().map_err(|_| format!("{name} is {value:?}, and no number")),
        Err(_) => Ok(default),
    };
    let settings = Settings {
        rounds: number("ROUNDS", 15.0)? as usize,
        time: Duration::from_secs_f64(number("TIME", 0.5)?),
        only: env::var("ONLY").unwrap_or_default(),
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
    /// The share of the time in which the server used its core, in percent.
    busy: f64,
    /// CPU seconds of the server per 100,000 requests.
    cpu: f64,
    p50: f64,
    p99: f64,
}

async fn over_http(settings: &Settings) -> Result<()> {
    let rows: Vec<_> =
        SERVERS.iter().filter(|row| row.kind != Kind::Store && row.is_wanted(&settings.only)).collect();
    let mut running = Vec::new();
    for row in &rows {
        let server = Server::start(row)?;
        let mut cookies = Cookies::create(server.address).await?;
        let mut routes = vec!["/plain", "/read", "/write"];
        if http::exists(server.address, "/update").await? {
            routes.push("/update");
        }
        for route in &routes {
            http::load(server.address, route, &mut cookies, settings.time / 10).await?;
        }
        running.push((server, cookies, routes));
    }
    let mut figures: Vec<[Vec<Figure>; 4]> = rows.iter().map(|_| Default::default()).collect();
    for round in 0..settings.rounds {
        for (index, (server, cookies, routes)) in running.iter_mut().enumerate() {
            eprintln!("round {} of {}: {}", round + 1, settings.rounds, rows[index].name);
            let mut plain = None;
            for (route, figures) in routes.iter().zip(&mut figures[index]) {
                let before = server.cpu()?;
                let load = http::load(server.address, route, cookies, settings.time).await?;
                let used = server.cpu()? - before;
                let ratio = load.per_second / *plain.get_or_insert(load.per_second);
                let cpu = used / load.requests as f64 * 100_000.0;
                let busy = used / load.requests as f64 * load.per_second * 100.0;
                figures.push(Figure { ratio, busy, cpu, p50: load.p50, p99: load.p99 });
            }
            cookies.check(server.address).await.map_err(|error| format!("{}: {error}", rows[index].name))?;
        }
    }
    println!(
        "| server | /plain: busy | CPU | /read | CPU | p50 | p99 | /write | CPU | p50 | p99 | /update | CPU | p50 | p99 |"
    );
    println!("|{}", " --- |".repeat(15));
    for (row, [plain, others @ ..]) in rows.iter().zip(&figures) {
        let mut line = format!(
            "| {} | {:.0} % | {:.2}",
            row.name,
            median(plain, |figure| figure.busy).1,
            median(plain, |figure| figure.cpu).1,
        );
        for figures in others {
            if figures.is_empty() {
                line.push_str(" | | | |");
                continue;
            }
            let (low, ratio, high) = median(figures, |figure| figure.ratio);
            let middle = |value: fn(&Figure) -> f64| median(figures, value).1;
            line.push_str(&format!(
                " | **{ratio:.3}** ({low:.2}-{high:.2}) | {:.2} | {:.2} | {:.2}",
                middle(|figure| figure.cpu),
                middle(|figure| figure.p50),
                middle(|figure| figure.p99),
            ));
        }
        println!("{line} |");
    }
    println!(
        "\nRatio of requests per second to the plain handler of the same server; CPU seconds of the server per 100,000"
    );
    println!("requests; latencies in milliseconds.\n");
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
