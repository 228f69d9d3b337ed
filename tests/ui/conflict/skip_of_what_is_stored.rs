use session_runtime::Databag;

#[derive(Databag)]
struct Shop0 {
    #[databag(skip, user_id)]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop1 {
    #[databag(skip, ip_addr)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop2 {
    #[databag(skip, flash)]
    notice: Option<String>,
}

#[derive(Databag)]
struct Shop3 {
    #[databag(skip, alias = "message")]
    notice: Option<String>,
}

#[derive(Databag)]
struct Shop4 {
    #[databag(skip, from = u16)]
    visits: u32,
}

#[derive(Databag)]
struct Shop5 {
    #[databag(skip, with = module)]
    visits: u32,
}

#[derive(Databag)]
struct Shop6 {
    #[databag(skip, merge = "sum")]
    visits: u32,
}

#[derive(Databag)]
struct Shop7 {
    #[databag(skip, keep_on_logout)]
    visits: u32,
}

#[derive(Databag)]
struct Shop8 {
    #[databag(skip, reset_on_login)]
    visits: u32,
}

fn main() {}
