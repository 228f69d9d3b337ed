use session_runtime::ColumnValue;

#[derive(ColumnValue)]
union Plan {
    a: u32,
}

fn main() {}
