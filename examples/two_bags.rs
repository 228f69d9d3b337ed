//! Two kinds of sessions in one program: a shop for everybody, and a back office with limits, a cookie and a table of its own.
//! `cargo run -p examples --example two_bags`, and
//!
//! ```sh
//! curl -c jar -b jar -X POST http://localhost:8080/cart/tea
//! curl -c jar -b jar http://localhost:8080/office             # 401: a customer is nobody there
//! curl -c jar -b jar -X POST http://localhost:8080/office/log-in
//! curl -c jar -b jar http://localhost:8080/office             # reads both
//! curl -c jar -b jar -X POST http://localhost:8080/office/log-out
//! curl -c jar -b jar http://localhost:8080/cart               # the cart is still there
//! ```
//!
//! A site for browsers also needs the guard `Csrf` for each bag, which `forms.rs` shows for one.

use std::collections::BTreeMap;

use actix_web::{App, HttpServer, web};
use session_runtime::{
    Databag, Error, Keyring, LoggedIn, Session, SessionMiddleware, SessionRef, Sessions, SqliteStore,
};

/// Lives long, also after the browser was closed: a cart is worth it, and is no secret.
#[derive(Databag)]
#[databag(
    table = "customers",
    cookie = "__Host-shop",
    persistence = "persistent",
    idle = "30d",
    absolute = "90d"
)]
struct Customer {
    cart: BTreeMap<String, u32>,
}

/// Lives for a working day at most, and is not sent with links from other sites.
#[derive(Databag)]
#[databag(table = "clerks", cookie = "__Host-office", same_site = "strict", idle = "15m", absolute = "8h")]
struct Clerk {
    #[databag(user_id)]
    name: Option<String>,
}

async fn add(mut customer: Session<Customer>, sku: web::Path<String>) -> String {
    *customer.cart_mut().entry(sku.into_inner()).or_default() += 1;
    format!("{:?}\n", customer.cart())
}

async fn cart(customer: SessionRef<Customer>) -> String {
    format!("{:?}\n", customer.cart())
}

/// After the password, which `accounts.rs` checks.
async fn log_in(mut clerk: Session<Clerk>) -> &'static str {
    clerk.log_in("kim");
    "welcome\n"
}

/// A handler takes either bag, or both. It can count all customers because it is given `Sessions<Customer>`.
async fn office(
    clerk: LoggedIn<Clerk>,
    own: SessionRef<Customer>,
    customers: Sessions<Customer>,
) -> Result<String, Error> {
    let (name, count) = (clerk.user(), customers.count_all().await?);
    Ok(format!("{name}: {count} customers, {} things in the own cart\n", own.cart().len()))
}

/// Ends the session of the clerk, and leaves that of the customer alone.
async fn log_out(clerk: LoggedIn<Clerk>) -> &'static str {
    clerk.log_out();
    "bye\n"
}

/// Makes both from one store and one keyring.
async fn open(store: SqliteStore, keyring: Keyring) -> Result<(Sessions<Customer>, Sessions<Clerk>), Error> {
    let customers = Sessions::builder(store.clone()).keyring(keyring.clone()).development().build().await?;
    let clerks = Sessions::builder(store).keyring(keyring).development().build().await?;
    Ok((customers, clerks))
}

/// Both middlewares are around the whole site: one whose bag no handler asks for costs nothing.
fn configure(app: &mut web::ServiceConfig, customers: &Sessions<Customer>, clerks: &Sessions<Clerk>) {
    app.service(
        web::scope("")
            .wrap(SessionMiddleware::new(customers.clone()))
            .wrap(SessionMiddleware::new(clerks.clone()))
            .route("/cart", web::get().to(cart))
            .route("/cart/{sku}", web::post().to(add))
            .route("/office", web::get().to(office))
            .route("/office/log-in", web::post().to(log_in))
            .route("/office/log-out", web::post().to(log_out)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (customers, clerks) = open(SqliteStore::in_memory()?, Keyring::generate()).await?;
    println!("two_bags: http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &customers, &clerks)))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::init_service;
    use databag_tests::Site;

    use super::*;

    /// The names of the cookies on plain HTTP, without `__Host-`.
    const SHOP: &str = "shop";
    const OFFICE: &str = "office";

    #[actix_web::test]
    async fn a_session_of_each_bag_lives_and_ends_by_itself() {
        let store = SqliteStore::in_memory().expect("a database");
        let (customers, clerks) = open(store, Keyring::generate()).await.expect("good settings");
        let app = App::new().configure(|app| configure(app, &customers, &clerks));
        let site = Site::new(init_service(app).await);
        let browser = site.browser().local();
        browser.post("/cart/tea").await;
        assert_eq!(browser.get("/office").await.status, 401);
        let answer = browser.post("/office/log-in").await;
        let [cookie] = answer.set_cookies().try_into().expect("the cookie of one bag");
        assert!(cookie.starts_with("office=") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert_eq!(browser.get("/office").await.body, "kim: 1 customers, 1 things in the own cart\n");

        // The cookie of one bag opens nothing under the name of the other one.
        let (shop, office) =
            (browser.cookie(SHOP).expect("a cookie"), browser.cookie(OFFICE).expect("a cookie"));
        let thief = site.browser().local();
        thief.set_cookie(OFFICE, &shop);
        thief.set_cookie(SHOP, &office);
        assert_eq!(thief.get("/office").await.status, 401);
        assert_eq!(thief.get("/cart").await.body, "{}\n");

        // The browser is closed: the session of the clerk goes with it.
        let closed = browser.copied();
        closed.restart();
        assert_eq!(closed.get("/office").await.status, 401);
        assert_eq!(browser.post("/office/log-out").await.status, 200);
        assert_eq!(browser.get("/office").await.status, 401);
        for browser in [&browser, &closed] {
            assert_eq!(browser.get("/cart").await.body, "{\"tea\": 1}\n");
        }
        let left = (customers.count_all().await, clerks.count_all().await);
        assert!(matches!(left, (Ok(1), Ok(0))), "{left:?}");
    }
}
