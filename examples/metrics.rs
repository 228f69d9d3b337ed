//! Metrics for Prometheus and a readiness probe: `cargo run -p examples --example metrics`, then
//! <http://localhost:8080> for visitors, <http://localhost:9100/metrics> and <http://localhost:9100/ready> for operators.
//!
//! `grafana/` has a dashboard and rules for alerts; `docs/observability.md` explains them.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, Responder, rt, web};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use session_runtime::{Csrf, Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore, health};

#[derive(Databag)]
#[databag(name = "metrics/Shop")]
struct Shop {
    #[databag(user_id)]
    user: Option<String>,
    visits: u32,
}

/// Upper bounds of the buckets, in seconds: from a cached row to the deadline of a request.
const SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0];
/// Upper bounds of the buckets, in bytes: up to `max_state_bytes`.
const BYTES: [f64; 8] = [256.0, 1024.0, 4096.0, 8192.0, 16384.0, 32768.0, 49152.0, 65536.0];

/// Installs the recorder. Without buckets it would show quantiles, which cannot be added up over processes.
fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
        .install_recorder()
}

/// Takes in the samples of histograms, which wait in memory also while nothing reads the metrics.
async fn keep_up(metrics: PrometheusHandle) {
    loop {
        rt::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

/// Counts the live sessions first: `databag_sessions_live` is what was counted last.
async fn scrape(metrics: web::Data<PrometheusHandle>, sessions: Sessions<Shop>) -> impl Responder {
    if let Err(error) = sessions.count_all().await {
        tracing::warn!(%error, "the live sessions are not counted");
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(metrics.render())
}

async fn page(mut session: Session<Shop>) -> impl Responder {
    session.visits += 1;
    let (csrf, user, visits) = (session.csrf_token(), session.user.as_deref(), session.visits);
    let (name, action) = user.map_or(("nobody", "login"), |user| (user, "logout"));
    HttpResponse::Ok().content_type(ContentType::html()).body(format!(
        r#"<p>Visit {visits} of {name}</p><form method="post" action="/{action}">
        <input type="hidden" name="csrf_token" value="{csrf}"><button>{action}</button></form>"#
    ))
}

async fn log_in(mut session: Session<Shop>) -> impl Responder {
    session.log_in("kim");
    web::Redirect::to("/").see_other()
}

async fn log_out(mut session: Session<Shop>) -> impl Responder {
    session.log_out();
    web::Redirect::to("/").see_other()
}

/// Starts the server for visitors.
fn serve_visitors(sessions: Sessions<Shop>, address: &str) -> std::io::Result<(Server, Vec<SocketAddr>)> {
    let server = HttpServer::new(move || {
        App::new()
            .wrap(Csrf::<Shop>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(page))
            .route("/login", web::post().to(log_in))
            .route("/logout", web::post().to(log_out))
    });
    let server = server.workers(2).shutdown_timeout(1).bind(address)?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

/// Starts the server for operators, on an address that visitors do not reach.
fn serve_operators(
    sessions: Sessions<Shop>,
    metrics: PrometheusHandle,
    address: &str,
) -> std::io::Result<(Server, Vec<SocketAddr>)> {
    let (sessions, metrics) = (web::Data::new(sessions), web::Data::new(metrics));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(sessions.clone())
            .app_data(metrics.clone())
            .route("/metrics", web::get().to(scrape))
            .route("/ready", web::get().to(health::<Shop>))
    });
    let server = server.workers(1).shutdown_timeout(1).bind(address)?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    // Before the sessions are built: they begin to count then.
    let metrics = install()?;
    rt::spawn(keep_up(metrics.clone()));
    let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .metrics()
        .build()
        .await?;
    let (operators, _) = serve_operators(sessions.clone(), metrics, "127.0.0.1:9100")?;
    let (visitors, addresses) = serve_visitors(sessions, "127.0.0.1:8080")?;
    println!("open http://{} and http://127.0.0.1:9100/metrics", addresses[0]);
    rt::spawn(operators);
    Ok(visitors.await?)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::OnceLock;

    use session_runtime::Token;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    const DASHBOARD: &str = include_str!("grafana/dashboard.json");
    const ALERTS: &str = include_str!("grafana/alerts.yaml");
    const PAGE: &str = include_str!("../docs/observability.md");

    /// A visitor's browser, as far as this site needs one.
    struct Visitor {
        address: SocketAddr,
        cookies: BTreeMap<String, String>,
        /// All tokens and ids that it has had.
        secrets: Vec<String>,
    }

    impl Visitor {
        fn of(address: SocketAddr) -> Self {
            Self { address, cookies: BTreeMap::new(), secrets: Vec::new() }
        }

        /// Returns the status line and the rest of an answer.
        async fn send(&mut self, method: &str, path: &str, form: &str) -> String {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                cookies.join("; "),
                form.len(),
            );
            let exchange = async {
                let mut stream = TcpStream::connect(self.address).await.expect("it listens");
                stream.write_all(request.as_bytes()).await.expect("it is sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("text");
                answer
            };
            let answer = timeout(Duration::from_secs(20), exchange).await.expect("an answer");
            for line in answer.lines().take_while(|line| !line.is_empty()) {
                let Some((name, value)) =
                    line.strip_prefix("set-cookie: ").and_then(|line| line.split_once('='))
                else {
                    continue;
                };
                let value = value.split(';').next().unwrap_or_default();
                if let Some(token) = Token::parse(value) {
                    self.secrets.extend([value.to_owned(), token.session_id().to_string()[..8].to_owned()]);
                }
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            answer
        }

        /// Sends the form of the page.
        async fn submit(&mut self, action: &str) -> String {
            let page = self.send("GET", "/", "").await;
            let token = page.split("value=\"").nth(1).and_then(|rest| rest.split('"').next());
            self.send("POST", action, &format!("csrf_token={}", token.expect("a form"))).await
        }
    }

    /// Lets visitors come and go, and returns what `/metrics` says then, and what it must not say.
    async fn served() -> (String, Vec<String>) {
        static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
        let metrics = RECORDER.get_or_init(|| install().expect("the only recorder")).clone();
        let store = SqliteStore::in_memory().expect("a database");
        let sessions = Sessions::<Shop>::builder(store).keyring(Keyring::generate()).development().metrics();
        let sessions = sessions.build().await.expect("good settings");
        let (visitors, addresses) = serve_visitors(sessions.clone(), "127.0.0.1:0").expect("a free port");
        rt::spawn(visitors);
        let (operators, internal) = serve_operators(sessions, metrics, "127.0.0.1:0").expect("a free port");
        rt::spawn(operators);

        let mut visitor = Visitor::of(addresses[0]);
        assert!(visitor.submit("/login").await.starts_with("HTTP/1.1 303"));
        assert!(visitor.send("GET", "/", "").await.contains("of kim"));
        let mut other = Visitor::of(addresses[0]);
        other.send("GET", "/", "").await;
        assert!(visitor.submit("/logout").await.starts_with("HTTP/1.1 303"));
        visitor.cookies.insert("session".to_owned(), "junk".to_owned());
        visitor.send("GET", "/", "").await;

        let mut operator = Visitor::of(internal[0]);
        let ready = operator.send("GET", "/ready", "").await;
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("cache-control: no-store"), "{ready}");
        let answer = operator.send("GET", "/metrics", "").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        (body.to_owned(), [visitor.secrets, other.secrets].concat())
    }

    /// A sample: the name of its metric and its labels.
    type Sample = (String, BTreeMap<String, String>);

    fn samples(served: &str) -> Vec<Sample> {
        let sample = |line: &str| {
            let name = line.split(['{', ' ']).next()?;
            let labels = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.split_once('}').map_or("", |(labels, _)| labels));
            let label = |label: &str| {
                let (name, value) = label.split_once('=')?;
                Some((name.to_owned(), value.trim_matches('"').to_owned()))
            };
            Some((name.to_owned(), labels.split(',').filter_map(label).collect()))
        };
        served.lines().filter(|line| line.starts_with("databag_")).filter_map(sample).collect()
    }

    /// Returns the metrics that are served, with their kinds.
    fn metrics(served: &str) -> BTreeMap<String, String> {
        let kind = |line: &str| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            Some((name.to_owned(), kind.to_owned()))
        };
        served.lines().filter_map(kind).filter(|(name, _)| name.starts_with("databag_")).collect()
    }

    /// A label and the values that a query selects.
    type Selected = (String, Vec<String>);

    /// Returns the selectors of a query: the metric, and the label and the values of each matcher.
    fn selectors(query: &str) -> Vec<(String, Vec<Selected>)> {
        let mut found = Vec::new();
        let mut rest = query;
        while let Some(at) = rest.find("databag_") {
            rest = &rest[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let matchers = behind
                .strip_prefix('{')
                .and_then(|behind| behind.split_once('}'))
                .map_or("", |(inside, _)| inside);
            let matcher = |matcher: &str| {
                let (label, value) = matcher.split_once('"').expect("a quoted value");
                let label = label.trim().trim_end_matches(['=', '~', '!']);
                let values = value.trim_end_matches('"').split('|').filter(|value| !value.contains('$'));
                (label.to_owned(), values.map(str::to_owned).collect())
            };
            let matchers = matchers.split(',').filter(|matcher| !matcher.is_empty()).map(matcher).collect();
            found.push((name.to_owned(), matchers));
            rest = behind;
        }
        found
    }

    /// Says what a query names that is not served.
    fn missing(query: &str, samples: &[Sample]) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, matchers) in selectors(query) {
            let mut of_metric =
                samples.iter().filter(|(other, _)| *other == name).map(|(_, labels)| labels).peekable();
            if of_metric.peek().is_none() {
                missing.push(name.clone());
            }
            let of_metric: Vec<_> = of_metric.collect();
            for (label, values) in matchers {
                let is_served = |value: Option<&str>| {
                    of_metric.iter().any(|labels| {
                        labels.get(&label).is_some_and(|served| value.is_none_or(|value| value == served))
                    })
                };
                missing.extend((!is_served(None)).then(|| format!("{name}{{{label}}}")));
                let values = values.iter().filter(|value| !is_served(Some(value)));
                missing.extend(values.map(|value| format!("{name}{{{label}={value}}}")));
            }
        }
        missing
    }

    fn queries_of_the_dashboard() -> Vec<String> {
        fn walk(value: &serde_json::Value, queries: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        match (name.as_str(), value.as_str()) {
                            ("expr" | "query", Some(query)) if query.contains("databag_") => {
                                queries.push(query.to_owned());
                            }
                            _ => walk(value, queries),
                        }
                    }
                }
                serde_json::Value::Array(values) => values.iter().for_each(|value| walk(value, queries)),
                _ => {}
            }
        }
        let mut queries = Vec::new();
        walk(&serde_json::from_str(DASHBOARD).expect("JSON"), &mut queries);
        queries
    }

    /// Returns the names and the queries of the alerts.
    fn alerts() -> Vec<(String, String)> {
        let value = |key: &'static str| {
            ALERTS.lines().filter_map(move |line| line.trim_start_matches([' ', '-']).strip_prefix(key))
        };
        let (names, queries): (Vec<_>, Vec<_>) = (value("alert: ").collect(), value("expr: ").collect());
        assert_eq!(names.len(), queries.len());
        names.into_iter().zip(queries).map(|(name, query)| (name.to_owned(), query.to_owned())).collect()
    }

    /// Returns the cells of the rows of a table of the page, under a heading.
    fn rows(heading: &str) -> Vec<Vec<String>> {
        let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the heading");
        let section = section.split("\n##").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = |line: &str| {
            let line = line.replace("\\|", "\u{0}");
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`').replace('\u{0}', "|")).collect()
        };
        rows.map(cells).collect()
    }

    #[actix_web::test]
    async fn the_dashboard_and_the_alerts_name_metrics_and_labels_that_are_served() {
        let (served, _) = served().await;
        let samples = samples(&served);
        let (dashboard, alerts) = (queries_of_the_dashboard(), alerts());
        assert!(dashboard.len() > 15 && alerts.len() == 10, "{dashboard:?} {alerts:?}");
        for query in dashboard.iter().chain(alerts.iter().map(|(_, query)| query)) {
            assert_eq!(missing(query, &samples), [""; 0], "{query}\n{served}");
        }
        // A mistake is found.
        assert_eq!(missing("rate(databag_loads[5m])", &samples), ["databag_loads"]);
        let query = r#"databag_loads_total{result="loaded", outcome=~"loaded|lost"}"#;
        let found = [
            "databag_loads_total{result}",
            "databag_loads_total{result=loaded}",
            "databag_loads_total{outcome=lost}",
        ];
        assert_eq!(missing(query, &samples), found);
        // Each metric is on the dashboard.
        let shown: BTreeSet<_> =
            dashboard.iter().flat_map(|query| selectors(query)).map(|(name, _)| name).collect();
        for name in metrics(&served).keys() {
            assert!(shown.iter().any(|shown| shown.starts_with(name.as_str())), "{name}");
        }
    }

    #[actix_web::test]
    async fn the_page_lists_the_metrics_that_are_served_with_their_labels() {
        let (served, _) = served().await;
        let rows = rows("Metrics");
        let listed: BTreeMap<_, _> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(listed, metrics(&served));
        for (sample, labels) in samples(&served) {
            let row =
                rows.iter().filter(|row| sample.starts_with(row[0].as_str())).max_by_key(|row| row[0].len());
            let row = row.expect("a row");
            assert_eq!(labels["bag"], "metrics/Shop");
            for label in labels.keys().filter(|label| !["bag", "le"].contains(&label.as_str())) {
                assert!(row[2].contains(label.as_str()), "{sample} {label}: {row:?}");
            }
        }
    }

    #[test]
    fn the_page_explains_each_alert_by_its_query() {
        let listed: Vec<_> = rows("Alerts").into_iter().map(|row| (row[0].clone(), row[2].clone())).collect();
        assert_eq!(listed, alerts());
    }

    #[actix_web::test]
    async fn no_metric_has_a_token_or_an_id() {
        let (served, secrets) = served().await;
        assert!(secrets.len() > 4, "{secrets:?}");
        for secret in secrets {
            assert!(!served.contains(&secret), "{secret} in {served}");
        }
        assert!(served.contains("databag_sessions_live{bag=\"metrics/Shop\"}"), "{served}");
        for counted in [
            r#"databag_sessions_ended_total{bag="metrics/Shop",cause="logged_out"}"#,
            r#"databag_rejections_total{bag="metrics/Shop",reason="malformed"}"#,
            r#"databag_rotations_total{bag="metrics/Shop"}"#,
            r#"databag_loads_total{bag="metrics/Shop",outcome="loaded"}"#,
        ] {
            let count = served.lines().find_map(|line| line.strip_prefix(counted)).expect(counted).trim();
            assert!(count.parse::<u64>().expect("a number") > 0, "{counted}");
        }
    }
}
