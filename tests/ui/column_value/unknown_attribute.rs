use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    #[column(renam = "free")]
    Free,
}

fn main() {}
