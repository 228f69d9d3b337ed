use session_runtime::Databag;

#[derive(Databag)]
#[databag(idle = "30")]
struct Shop<T, U, const N: usize>
where
    T: Clone,
{
    #[databag(user_id)]
    account: Option<U>,
    #[databag(column)]
    tenant: Option<U>,
    #[databag(secret)]
    items: Vec<T>,
    numbers: [u8; N],
}

fn main() {
    let mut shop = Shop::<u8, i64, 4>::defaults();
    shop.items_mut().push(1);
    shop.set_account(7);
    let _ = (shop.numbers(), shop.tenant(), Shop::<u8, i64, 4>::TENANT.eq(1));
}
