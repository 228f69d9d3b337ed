//! Sessions of many customers in one table: an administrator sees who of the own tenant is signed in, and ends these sessions.
//! `cargo run -p examples --example tenants`, and
//!
//! ```sh
//! curl -c ada -X POST http://localhost:8080/log-in/ada    # of acme, an administrator
//! curl -c bob -X POST http://localhost:8080/log-in/bob    # of acme, a member
//! curl -c cas -X POST http://localhost:8080/log-in/cas    # of globex, an administrator
//! curl -b ada http://localhost:8080/team                  # ada and bob
//! curl -b bob http://localhost:8080/team                  # 403
//! curl -b ada -X DELETE http://localhost:8080/team        # ends bob's
//! ```
//!
//! A site for browsers also needs the guard `Csrf`, which `forms.rs` shows.

use std::error::Error;

use actix_web::error::ErrorUnauthorized;
use actix_web::{App, HttpServer, web};
use serde::{Deserialize, Serialize};
use session_runtime::{
    ColumnValue, Condition, Databag, Keyring, LoggedIn, Session, SessionMiddleware, Sessions, SqliteStore,
    require,
};

#[derive(Databag)]
struct Member {
    #[databag(user_id)]
    user: Option<String>,
    /// A column of its own, with an index: queries find the sessions of a tenant without reading the others. It is not sealed.
    /// Who logs in over another user begins with none.
    #[databag(column, index, reset_on_login)]
    tenant: Option<String>,
    /// As it was at the log-in: a program that changes it in the accounts ends the sessions of the user, by `revoke_user`.
    #[databag(column, reset_on_login)]
    role: Role,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, ColumnValue)]
enum Role {
    #[default]
    Member,
    Administrator,
}

/// The accounts: name, tenant and role.
const USERS: [(&str, &str, Role); 3] = [
    ("ada", "acme", Role::Administrator),
    ("bob", "acme", Role::Member),
    ("cas", "globex", Role::Administrator),
];

/// After the password, which `accounts.rs` checks.
async fn log_in(mut session: Session<Member>, name: web::Path<String>) -> actix_web::Result<String> {
    let user = USERS.iter().find(|(user, ..)| *user == *name);
    let (user, tenant, role) = user.ok_or_else(|| ErrorUnauthorized("no user has this name"))?;
    session.log_in(*user);
    session.set_tenant(*tenant);
    session.role = *role;
    Ok(format!("{user} of {tenant}\n"))
}

/// The sessions of the visitor's tenant. It comes from the session, never from the request, and a visitor without one has no
/// team: every query begins here.
fn team(session: &Session<Member>) -> actix_web::Result<Condition<Member>> {
    let tenant = session.tenant().ok_or_else(|| ErrorUnauthorized("log in first"))?;
    Ok(Member::TENANT.eq(tenant))
}

async fn list(session: LoggedIn<Member>, sessions: Sessions<Member>) -> actix_web::Result<String> {
    let members = sessions.find(team(&session)?).await?;
    let administrators = sessions.find(team(&session)?.and(Member::ROLE.eq(Role::Administrator)));
    let names: Vec<_> = members.iter().filter_map(|member| member.user()).collect();
    Ok(format!("{} ({} administrators)\n", names.join(", "), administrators.count().await?))
}

/// Ends the sessions of all others of the tenant.
async fn end(session: LoggedIn<Member>, sessions: Sessions<Member>) -> actix_web::Result<String> {
    let others = team(&session)?.and(Member::USER.ne(session.user()));
    Ok(format!("{} ended\n", sessions.find(others).delete().await?))
}

fn routes(app: &mut web::ServiceConfig) {
    let team = web::resource("/team").wrap(require(|member: &Member| member.role == Role::Administrator));
    app.route("/log-in/{name}", web::post().to(log_in)).service(team.get(list).delete(end));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Member>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("tenants: http://localhost:8080");
    HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, init_service};
    use databag_tests::{Browser, Site};

    use super::*;

    #[actix_web::test]
    async fn an_administrator_sees_and_ends_the_sessions_of_the_own_tenant_alone() {
        let sessions = Sessions::<Member>::for_test();
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let site = Site::new(init_service(app).await);
        let log_in = async |name: &str| {
            let browser = site.browser();
            assert_eq!(browser.post(&format!("/log-in/{name}")).await.status, 200);
            browser
        };
        let end = async |browser: &Browser| browser.send(TestRequest::delete().uri("/team")).await;
        let (ada, bob, cas) = (log_in("ada").await, log_in("bob").await, log_in("cas").await);
        let stranger = site.browser();
        assert_eq!(stranger.post("/log-in/eve").await.status, 401);

        let team = ada.get("/team").await.body;
        assert!(
            ["ada, bob", "bob, ada"].map(|names| format!("{names} (1 administrators)\n")).contains(&team)
        );
        assert_eq!(cas.get("/team").await.body, "cas (1 administrators)\n");
        for other in [&bob, &stranger] {
            assert_eq!(other.get("/team").await.status, 403);
            assert_eq!(end(other).await.status, 403);
        }
        assert_eq!(end(&cas).await.body, "0 ended\n");
        assert_eq!(end(&ada).await.body, "1 ended\n");
        let left = sessions.find(Member::TENANT.one_of(["acme", "globex"])).await.expect("the store answers");
        let mut left: Vec<_> = left.iter().filter_map(|member| member.user()).collect();
        left.sort_unstable();
        assert_eq!(left, ["ada", "cas"]);
    }
}
