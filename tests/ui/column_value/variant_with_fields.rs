use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    Free,
    Paid(u32),
    Trial { days: u32 },
}

fn main() {}
