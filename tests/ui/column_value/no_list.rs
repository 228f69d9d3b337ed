use session_runtime::ColumnValue;

#[derive(ColumnValue)]
#[column]
enum Plan {
    Free,
}

fn main() {}
