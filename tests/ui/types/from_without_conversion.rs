use session_runtime::Databag;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visits(u32);

#[derive(Databag)]
struct Shop {
    #[databag(from = String)]
    visits: Visits,
}

fn main() {}
