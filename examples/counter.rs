//! A counter: the smallest session. `cargo run -p examples --example counter`, and open <http://localhost:8080>.
//!
//! ```sh
//! curl -i -c jar -b jar http://localhost:8080     # visit 1, and a cookie; again: visit 2, and no cookie
//! curl -i http://localhost:8080/visits            # a stranger: nothing is stored, and there is no cookie
//! ```

use std::error::Error;

use actix_web::{App, HttpServer, web};
use session_runtime::{Databag, Keyring, Session, SessionMiddleware, SessionRef, Sessions, SqliteStore};

/// What a session holds.
#[derive(Databag)]
struct Visitor {
    /// Of two requests at the same time both count.
    #[databag(merge = "sum")]
    visits: u64,
}

/// The change is stored before the answer is sent. If it cannot be stored, the answer is 503 instead.
async fn visit(mut session: Session<Visitor>) -> String {
    session.visits += 1;
    format!("visit {}\n", session.visits)
}

async fn visits(session: SessionRef<Visitor>) -> String {
    format!("{} visits so far\n", session.visits)
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(visit)).route("/visits", web::get().to(visits));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // These sessions end with the process. A site has `SqliteStore::open("sessions.db")?`, and
    // `Keyring::from_env("SESSION_KEY")?`; `development` is for plain HTTP on this machine.
    let sessions = Sessions::<Visitor>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("counter: open http://localhost:8080");
    HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::init_service;
    use databag_tests::Site;
    use futures_util::future::join_all;

    use super::*;

    #[actix_web::test]
    async fn each_visit_is_counted_and_a_stranger_costs_nothing() {
        let sessions = Sessions::<Visitor>::for_test();
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let site = Site::new(init_service(app).await);
        let (visitor, stranger) = (site.browser(), site.browser());
        let first = visitor.get("/").await;
        assert_eq!((first.body.as_str(), first.set_cookies().len()), ("visit 1\n", 1));
        let second = visitor.get("/").await;
        assert_eq!((second.body.as_str(), second.set_cookies().len()), ("visit 2\n", 0));
        let seen = stranger.get("/visits").await;
        assert_eq!((seen.body.as_str(), seen.set_cookies().len()), ("0 visits so far\n", 0));
        assert_eq!(sessions.count_all().await.expect("the store answers"), 1);
    }

    #[actix_web::test]
    async fn visits_at_the_same_time_are_all_counted() {
        // The requests wait for the threads of SQLite, so they overlap.
        let store = SqliteStore::in_memory().expect("a database");
        let sessions = Sessions::<Visitor>::builder(store).keyring(Keyring::generate()).build();
        let sessions = sessions.await.expect("good settings");
        let app = App::new().wrap(SessionMiddleware::new(sessions)).configure(routes);
        let visitor = Site::new(init_service(app).await).browser();
        visitor.get("/").await;
        join_all((0..50).map(|_| visitor.get("/"))).await;
        assert_eq!(visitor.get("/visits").await.body, "51 visits so far\n");
    }
}
