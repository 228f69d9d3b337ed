use session_runtime::Databag;

#[derive(Databag, Debug)]
struct Shop {
    #[databag(secret)]
    pin: u32,
}

fn main() {}
