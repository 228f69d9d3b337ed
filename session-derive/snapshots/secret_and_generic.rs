#[derive(Databag)]
#[databag(crate = facade::databag, accessors = false)]
struct Shop<T, const N: usize>
where
    T: Clone,
{
    items: Vec<T>,
    #[databag(secret)]
    pins: [u8; N],
}
