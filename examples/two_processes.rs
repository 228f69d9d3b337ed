//! Two processes on one Redis serve the same visitors, so that a site outlives one of them. With a Redis, such as that of
//! `compose.yaml`, start both, and visit them in turn:
//!
//! ```sh
//! export REDIS_URL=redis://127.0.0.1 SESSION_KEY=$(openssl rand -hex 32)      # one key for all processes
//! ADDRESS=127.0.0.1:8081 cargo run -p examples --example two_processes &
//! ADDRESS=127.0.0.1:8082 cargo run -p examples --example two_processes &
//! curl -c jar -b jar http://127.0.0.1:8081                    # visit 1
//! curl -c jar -b jar http://127.0.0.1:8082                    # visit 2
//! curl -c jar -b jar -X POST http://127.0.0.1:8081/log-in
//! curl -c jar -b jar http://127.0.0.1:8082/account
//! ```
//!
//! A balancer in front needs no sticky sessions. The program is that of one process, but for the store. A site for browsers also
//! needs the guard `Csrf`, which `forms.rs` shows.

use std::env;

use actix_web::{App, HttpServer, web};
use session_runtime::{Databag, Error, Keyring, LoggedIn, RedisStore, Session, SessionMiddleware, Sessions};

#[derive(Databag)]
#[databag(table = "two_processes")]
struct Visitor {
    #[databag(user_id)]
    user: Option<String>,
    visits: u64,
}

/// Each visit has a number of its own, whichever process serves it: `update` runs again if another request was first.
async fn visit(mut session: Session<Visitor>) -> Result<String, Error> {
    let visits = session.update(|visitor| {
        visitor.visits += 1;
        visitor.visits
    });
    Ok(format!("visit {}\n", visits.await?))
}

/// After the password, which `accounts.rs` checks.
async fn log_in(mut session: Session<Visitor>) -> &'static str {
    session.log_in("kim");
    "welcome\n"
}

async fn account(session: LoggedIn<Visitor>) -> String {
    format!("account of {}\n", session.user())
}

/// Ends the sessions of all the user's browsers. No process serves them any more when this has answered.
async fn log_out_everywhere(
    session: LoggedIn<Visitor>,
    sessions: Sessions<Visitor>,
) -> Result<&'static str, Error> {
    sessions.revoke_user_except(session.user(), session.id()).await?;
    session.log_out();
    Ok("bye\n")
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(visit))
        .route("/log-in", web::post().to(log_in))
        .route("/account", web::get().to(account))
        .route("/log-out-everywhere", web::post().to(log_out_everywhere));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::<Visitor>::builder(RedisStore::connect(&env::var("REDIS_URL")?).await?)
        .keyring(Keyring::from_env("SESSION_KEY")?)
        .development()
        .build()
        .await?;
    let server =
        HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes));
    let server = server.workers(2).bind(env::var("ADDRESS").as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("two_processes: open http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}

/// Run by `tests/servers cargo test -p examples --features servers --example two_processes`.
#[cfg(all(test, feature = "servers"))]
mod tests {
    use std::collections::BTreeSet;

    use databag_tests::server::url;
    use databag_tests::{Client, Jar, Program};
    use futures_util::future::join_all;

    use super::*;

    #[test]
    #[ignore = "it is the program, which the other test starts"]
    fn the_program() {
        main().expect("it serves");
    }

    #[actix_web::test]
    async fn what_one_process_does_the_other_one_knows_at_once() {
        let (folder, redis) = (tempfile::tempdir().expect("a folder"), url("REDIS_URL"));
        let key = Keyring::generate_text();
        let variables = [("REDIS_URL", redis.as_str()), ("SESSION_KEY", key.as_str())];
        let [one, other] = [(); 2].map(|()| Program::start("tests::the_program", &folder, &variables));

        // One visitor, at both at the same time: no number is given twice, and none is left out.
        let jar = Jar::default();
        assert_eq!(one.tab(&jar).get("/").await.body, "visit 1\n");
        assert_eq!(other.tab(&jar).get("/").await.body, "visit 2\n");
        let visits = join_all((0..20).map(async |number| {
            let mut tab = if number % 2 == 0 { one.tab(&jar) } else { other.tab(&jar) };
            [tab.get("/").await.body, tab.get("/").await.body]
        }));
        let seen: BTreeSet<_> = visits.await.into_iter().flatten().collect();
        assert_eq!(seen, (3..43).map(|visit| format!("visit {visit}\n")).collect());

        // Who logs in at one is known at the other, and who logs out at one is nobody at the other.
        let (laptop, phone) = (jar, Jar::default());
        let account = async |mut tab: Client| tab.get("/account").await.status;
        assert_eq!(account(other.tab(&laptop)).await, 401);
        for (program, jar) in [(&one, &laptop), (&other, &phone)] {
            assert_eq!(program.tab(jar).post("/log-in").await.status, 200);
        }
        // Copies, because a browser forgets the cookie at a log-out.
        let copies = [&laptop, &phone].map(|jar| Jar::of(jar.cookie().expect("a cookie")));
        for program in [&one, &other] {
            for jar in &copies {
                assert_eq!(account(program.tab(jar)).await, 200);
            }
        }
        assert_eq!(one.tab(&laptop).post("/log-out-everywhere").await.status, 200);
        for program in [&other, &one] {
            for jar in &copies {
                assert_eq!(account(program.tab(jar)).await, 401);
            }
        }

        // One process ends, and its visitors go on at the other one.
        let jar = Jar::default();
        assert_eq!(one.tab(&jar).get("/").await.body, "visit 1\n");
        drop(one);
        assert_eq!(other.tab(&jar).get("/").await.body, "visit 2\n");
    }
}
