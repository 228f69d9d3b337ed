use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column, blind)]
    visits: u32,
    #[databag(user_id, blind)]
    user_id: Option<i64>,
}

fn main() {
    let _ = Shop::VISITS.eq(7_u32);
    let _ = Shop::VISITS.lt(7_u32);
    let _ = Shop::USER_ID.ge(7);
}
