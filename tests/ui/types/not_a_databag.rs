use session_runtime::Databag;

struct Shop;

fn schema<T: Databag>() {}

fn main() {
    schema::<Shop>();
}
