//! The scripts that run in the server, one for each step: keys and values enter, a word leaves.
//!
//! All keys of a script share a hash tag, so every one of them runs in a cluster too. `row` is what is stored under an id
//! (`fields` says which byte means what; Lua counts them from 1), `list` the sorted set of the ids of its shard by
//! expiration.
//!
//! A call may reach the server twice, and the second time late. A script that inserts, changes or removes a row knows its
//! call by the id that it left there. Then it changes nothing and gives the same reply. What waits for replicas writes
//! the first byte again, because `WAIT` waits for what the same connection has written.
//!
//! What begins with a mark or a row returns at least 45 bytes of it, or `gone`: stored bytes are never taken for a word. A
//! server without memory runs a script whose first write needs none, such as `ZREM`. So the steps that follow a commit
//! begin with one.
//!
//! No script calls `TIME`, which a user of Redis may lack. The time of the server is the time at which a key expires,
//! less the time that it has left (`PTTL`).

use std::sync::OnceLock;

/// A script, known to the server by its hash.
pub(super) struct Script {
    pub(super) text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

/// Defines `unknown`: it returns those of some columns whose names are not among the values of a script from a number on.
macro_rules! unknown_columns {
    () => {
        r"
        local function unknown(columns, first)
            local function length(at)
                local a, b, c, d = string.byte(columns, at, at + 3)
                return d and ((a * 256 + b) * 256 + c) * 256 + d or 0
            end
            local known, found, at = {}, {}, 1
            for n = first, #ARGV do known[ARGV[n]] = true end
            while at <= #columns do
                local value = at + 4 + length(at)
                local next = value + 4 + length(value)
                if not known[string.sub(columns, at + 4, value - 1)] then
                    found[#found + 1] = string.sub(columns, at, next - 1)
                end
                at = next
            end
            return table.concat(found)
        end
        "
    };
}

/// Defines `evict`: it removes the surplus rows of a user, which may be in any slot, and adds their ids to a reply.
///
/// Its values are those of a script from a number on: the start of every key, the user, how many other rows stay, the time,
/// the id of this call, how long a mark stays, how many ids one script may look at. A row that is being renamed counts if it
/// is usable.
macro_rules! evict {
    () => {
        r"
        local function is_too_long(set, most)
            return redis.call('ZCOUNT', set, '-inf', '+inf') > tonumber(most)
        end
        local function evict(set, stays, first, reply)
            local prefix, user, others, time, call, lifetime = unpack(ARGV, first, first + 5)
            local function list(id) return prefix .. string.sub(id, 1, 2) .. '}' end
            local function hex(bytes)
                return (string.gsub(bytes, '.', function(c) return string.format('%02x', string.byte(c)) end))
            end
            local function read(id, last)
                local there = redis.pcall('GETRANGE', list(id) .. ':' .. id, 0, last)
                return type(there) == 'string' and there or ''
            end
            local rows = {}
            for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
                local there = id == stays and '' or read(id, 172 + #user)
                local kind, row = string.sub(there, 1, 1), there
                if kind == 'p' then
                    local mark = read(hex(string.sub(there, 14, 45)), 44)
                    local is_renamed = string.find(mark, '^[mc]') and hex(string.sub(mark, 14, 45)) == id
                    kind, row = is_renamed and 'r' or 'p', string.sub(there, 33)
                end
                if kind == 'r' and #row >= 141 and struct.unpack('>I4', row, 134) == #user
                    and string.sub(row, 142, 141 + #user) == user then
                    local live = struct.unpack('>i8', row, 118) > tonumber(time)
                    local created = struct.unpack('>i8', row, 126)
                    rows[#rows + 1] = { id = id, call = string.sub(there, 2, 13), live = live, created = created }
                end
            end
            table.sort(rows, function(a, b)
                if a.live ~= b.live then return a.live end
                if a.created ~= b.created then return a.created > b.created end
                return a.id > b.id
            end)
            for n = others + 1, #rows do
                local id = rows[n].id
                redis.call('ZREM', list(id), id)
                redis.call('SET', list(id) .. ':' .. id, 'g' .. rows[n].call .. call .. user, 'PX', lifetime)
                redis.call('ZREM', set, id)
                reply[#reply + 1] = id
            end
            return reply
        end
        "
    };
}

/// Defines `drop_dead`: it keeps a user's set for as long as its last entry, removes the entries that expired long ago, and
/// returns how many: at most so many, few enough not to block the server.
///
/// Its values are the first ones of a script: how long a row outlives its expiration, the last time at which a key can
/// expire.
macro_rules! drop_dead {
    () => {
        r"
        local function drop_dead(most)
            local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
            if not last then return 0 end
            local ends = math.min(last + ARGV[1], tonumber(ARGV[2]))
            redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends))
            local now = ends - redis.call('PTTL', KEYS[1])
            local before = string.format('%.0f', now - ARGV[1])
            local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, most)
            if dead[1] then redis.call('ZREM', KEYS[1], unpack(dead)) end
            return #dead
        end
        "
    };
}

/// Adds an id to the sessions of a user. Some dead entries are removed, more than one, so that the set of a daily visitor
/// does not grow. With one value more it returns all ids of the set.
///
/// Keys: the user's set. Values: two for `drop_dead`, id, expiration.
pub(super) static INDEX_USER: Script = Script::new(concat!(
    drop_dead!(),
    r"
    redis.call('ZADD', KEYS[1], 'GT', ARGV[4], ARGV[3])
    drop_dead(100)
    if not ARGV[5] then return 'stored' end
    local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
    table.insert(ids, 1, 'stored')
    return ids
    ",
));

/// Removes dead entries of the sessions of a user, and returns how many.
///
/// Keys: the user's set. Values: two for `drop_dead`, how many at most.
pub(super) static DROP_DEAD: Script = Script::new(concat!(drop_dead!(), "return drop_dead(ARGV[3])"));

/// Inserts a row.
///
/// It replaces a mark that a deletion or a complete rename has left, and as a step of a rename only the one of a rename that
/// was taken back: a rename that is sent again when its session has ended must not revive it. It removes some dead entries
/// of the list too, more than it adds, so that the list does not grow without end.
///
/// Keys: row, list. Values: the id of this call, the row, its score, when the key expires, how long a row outlives its
/// expiration.
pub(super) static INSERT: Script = Script::new(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 12)
    local kind = string.sub(there, 1, 1)
    if kind ~= '' and string.sub(there, 2) == ARGV[1] then
        redis.call('SETRANGE', KEYS[1], 0, kind)
        return 'stored'
    end
    local free = string.sub(ARGV[2], 1, 1) == 'p' and 'a' or 'agc'
    if kind ~= '' and not string.find(free, kind, 1, true) then return 'taken' end
    redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[4])
    redis.call('ZADD', KEYS[2], ARGV[3], string.sub(KEYS[1], #KEYS[2] + 2))
    local now = ARGV[4] - redis.call('PTTL', KEYS[1])
    local range = { string.format('%.0f', -now), string.format('%.0f', now - ARGV[5]) }
    local dead = redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2], 'LIMIT', 0, 16)
    if dead[1] then redis.call('ZREM', KEYS[2], unpack(dead)) end
    return 'stored'
    ",
);

/// Changes a row of the expected revision. A row that the same call has changed is no conflict, also if a few other calls
/// have changed it since: the row holds the ids of the last eight, for clients of a cluster, which send calls again without
/// saying so.
///
/// Keys: row, and the list if the expiration changes. Values: the id of this call, the expected revision, the numbers that
/// change, the state. If the expiration changes: the score and when the key expires. If any column may change: the user, or
/// `-` if the program knows of none, the columns, and the names of all columns that the program knows.
pub(super) static UPDATE: Script = Script::new(concat!(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 255)
    local kind = string.sub(there, 1, 1)
    if kind == '' then return 'gone' end
    if kind ~= 'r' then return #there < 45 and 'gone' or string.sub(there, 1, 45) end
    if string.find(there, ARGV[1], 14, true) then
        redis.call('SETRANGE', KEYS[1], 0, 'r')
        return 'stored'
    end
    if #there < 141 or string.find(there, ARGV[2], 110, true) ~= 110 then return 'conflict' end
    local user, columns = struct.unpack('>I4I4', there, 134)
    local last = 141 + user + columns
    if last > #there then there = redis.call('GETRANGE', KEYS[1], 0, last - 1) end
    local kept = string.sub(there, 110 + #ARGV[3], ARGV[7] and 133 or last)
    if ARGV[7] then
    ",
    unknown_columns!(),
    r"
        columns = ARGV[8] .. unknown(string.sub(there, 142 + user, last), 9)
        user = ARGV[7] == '-' and string.sub(there, 142, 141 + user) or ARGV[7]
        kept = kept .. struct.pack('>I4I4', #user, #columns) .. user .. columns
    end
    local row = string.sub(there, 1, 13) .. string.sub(there, 26, 109) .. ARGV[1] .. ARGV[3] .. kept .. ARGV[4]
    if ARGV[5] then
        redis.call('SET', KEYS[1], row, 'PXAT', ARGV[6])
        redis.call('ZADD', KEYS[2], ARGV[5], string.sub(KEYS[1], #KEYS[2] + 2))
    else
        redis.call('SET', KEYS[1], row, 'KEEPTTL')
    end
    return 'stored'
    ",
));

/// Makes a row usable that waits for its surplus, marked with its own id, and removes the surplus rows of its user. If the
/// user has more ids than one script may look at, it does nothing.
///
/// Keys: row, list, the user's set. Values: the id, seven for `evict`.
pub(super) static ADMIT: Script = Script::new(concat!(
    evict!(),
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 44)
    local id = string.sub(KEYS[1], #KEYS[2] + 2)
    if string.sub(there, 1, 1) == 'r' then redis.call('SETRANGE', KEYS[1], 0, 'r') end
    if string.sub(there, 1, 1) ~= 'p' or string.sub(there, 14, 45) ~= ARGV[1]
        or not redis.call('ZSCORE', KEYS[3], id) then
        return { 'gone' }
    end
    if is_too_long(KEYS[3], ARGV[8]) then return { 'many' } end
    local row = 'r' .. string.sub(there, 2, 13) .. redis.call('GETRANGE', KEYS[1], 45, -1)
    redis.call('SET', KEYS[1], row, 'KEEPTTL')
    return evict(KEYS[3], id, 2, { 'stored' })
    ",
));

/// Defines `commit`, which is step 2 of a rename: it replaces a row of the expected revision by a mark, and returns its user. The list keeps the old id
/// for as long as the mark is there, with a negative score.
///
/// If the row has more than the new one was given, it returns that first, and changes nothing: the user if the program knows
/// of none, and the columns that the program does not know. What is longer than a row can have is not looked at.
///
/// Its values are the first ones of a script: the expected revision, the new id, when the mark expires, how many bytes a row
/// can have, the user that the new row was given, or `-` if the program knows users, the columns that it was given; and, from
/// a number on, the names of all columns that the program knows.
macro_rules! commit_rename {
    ($names:literal) => {
        concat!(
            unknown_columns!(),
            r"
        local is_new = false
        local function commit()
            local there = redis.call('GETRANGE', KEYS[1], 0, 140)
            local kind = string.sub(there, 1, 1)
            if (kind == 'm' or kind == 'c') and string.sub(there, 14, 45) == ARGV[2] then
                redis.call('SETRANGE', KEYS[1], 0, kind)
                return { 'stored', redis.call('GETRANGE', KEYS[1], 45, 44 + ARGV[4]) }
            end
            if kind ~= 'r' then return #there < 45 and 'gone' or string.sub(there, 1, 45) end
            if string.sub(there, 110, 117) ~= ARGV[1] then return 'conflict' end
            local user, columns = '', ''
            local a, b, c, d, e, f, g, h = string.byte(there, 134, 141)
            if h then
                local first = ((a * 256 + b) * 256 + c) * 256 + d
                local both = first + ((e * 256 + f) * 256 + g) * 256 + h
                if both <= tonumber(ARGV[4]) then
                    columns = redis.call('GETRANGE', KEYS[1], 141, 140 + both)
                    user, columns = string.sub(columns, 1, first), string.sub(columns, first + 1)
                end
            end
            columns = unknown(columns, ", $names, r")
            if columns ~= ARGV[6] or ARGV[5] ~= '-' and ARGV[5] ~= user then return { 'more', user, columns } end
            redis.call('SET', KEYS[1], 'm' .. string.sub(there, 2, 13) .. ARGV[2] .. user, 'PXAT', ARGV[3])
            redis.call('ZADD', KEYS[2], '-' .. ARGV[3], string.sub(KEYS[1], #KEYS[2] + 2))
            is_new = true
            return { 'stored', user }
        end
            "
        )
    };
}

/// Step 2 of a rename.
///
/// Keys: row, list. Values: those of `commit`, which has the names of columns from the seventh on.
pub(super) static COMMIT_RENAME: Script = Script::new(concat!(commit_rename!("7"), "return commit()"));

/// Step 2 of a rename, after which its user has no surplus rows. Returns their ids after the user of the row. If it would
/// commit, and the user has more ids than one script may look at, it does nothing.
///
/// Keys: row, list, the set of the new row's user. Values: those of `commit`, which has the names of columns from the
/// fifteenth on; from the seventh on seven for `evict`, and the new id as text.
pub(super) static COMMIT_RENAME_AND_EVICT: Script = Script::new(concat!(
    commit_rename!("15"),
    evict!(),
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 116)
    local is_due = string.sub(there, 1, 1) == 'r' and string.sub(there, 110, 117) == ARGV[1]
    if is_due and is_too_long(KEYS[3], ARGV[13]) then return { 'many' } end
    local reply = commit()
    return is_new and evict(KEYS[3], ARGV[14], 7, reply) or reply
    ",
));

/// Writes the row of step 1 again, with what it was not given.
///
/// Keys: row. Values: the old id, the row.
pub(super) static COMPLEMENT: Script = Script::new(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 44)
    if string.sub(there, 1, 1) ~= 'p' or string.sub(there, 14, 45) ~= ARGV[1] then return 'gone' end
    redis.call('SET', KEYS[1], string.sub(there, 1, 13) .. string.sub(ARGV[2], 14), 'KEEPTTL')
    return 'stored'
    ",
);

/// Step 3 of a rename: removes the mark of this rename from a row.
///
/// Keys: row, list. Values: the old id.
pub(super) static COMPLETE_RENAME: Script = Script::new(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 44)
    local kind = string.sub(there, 1, 1)
    redis.call('ZREM', KEYS[2], '')
    if kind == 'p' and string.sub(there, 14, 45) == ARGV[1] then
        local row = 'r' .. string.sub(there, 2, 13) .. redis.call('GETRANGE', KEYS[1], 45, -1)
        redis.call('SET', KEYS[1], row, 'KEEPTTL')
    elseif kind == 'r' then
        redis.call('SETRANGE', KEYS[1], 0, 'r')
    else
        return 'gone'
    end
    return 'stored'
    ",
);

/// Notes on a mark that its rename is complete, and lets it expire soon.
///
/// Keys: row, list. Values: the new id, how long the mark stays, the last time at which a key can expire.
pub(super) static EXPIRE_MARK: Script = Script::new(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 44)
    local kind = string.sub(there, 1, 1)
    if kind ~= 'm' and kind ~= 'c' or string.sub(there, 14, 45) ~= ARGV[1] then return 'gone' end
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
    redis.call('SETRANGE', KEYS[1], 0, 'c')
    local now = ARGV[3] - redis.call('PTTL', KEYS[1])
    local last = string.format('%.0f', now + ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], last)
    redis.call('ZADD', KEYS[2], '-' .. last, string.sub(KEYS[1], #KEYS[2] + 2))
    return 'stored'
    ",
);

/// Takes step 1 of a rename back: replaces a row with this mark by a mark that stays for a while.
///
/// Keys: row, list. Values: the old id, how long the mark stays.
pub(super) static ABORT_RENAME: Script = Script::new(
    r"
    local there = redis.call('GETRANGE', KEYS[1], 0, 44)
    if string.sub(there, 1, 1) ~= 'p' or string.sub(there, 14, 45) ~= ARGV[1] then return 'gone' end
    redis.call('ZREM', KEYS[2], string.sub(KEYS[1], #KEYS[2] + 2))
    redis.call('SET', KEYS[1], 'a' .. string.sub(there, 2, 13), 'PX', ARGV[2])
    return 'stored'
    ",
);

/// Replaces a row by a mark that stays for a while, and returns its user. A key that is no string, which another program
/// has written, is removed like a row. A user that is longer than a row can have is not read: its entry stays.
///
/// Keys: row, list. Values: the id of this call, how long the mark stays, how many bytes a row can have, and what is no row: the
/// first bytes of marks, and that of a row that is being renamed unless it is removed too.
pub(super) static DELETE: Script = Script::new(
    r"
    local there, user = '', ''
    if redis.call('TYPE', KEYS[1]).ok == 'string' then
        there = redis.call('GETRANGE', KEYS[1], 0, 168)
        local kind = string.sub(there, 1, 1)
        local at = kind == 'p' and 32 or 0
        if kind == 'g' and string.sub(there, 14, 25) == ARGV[1] then
            redis.call('ZREM', KEYS[2], '')
            redis.call('SETRANGE', KEYS[1], 0, 'g')
            return { 'stored', redis.call('GETRANGE', KEYS[1], 25, 24 + ARGV[3]) }
        end
        local is_mark = string.find(#there < 45 and 'ag' or ARGV[4], kind, 1, true)
        if is_mark then return string.sub(there, 1, 45) end
        local a, b, c, d = string.byte(there, 134 + at, 137 + at)
        local length = d and ((a * 256 + b) * 256 + c) * 256 + d or 0
        if length <= tonumber(ARGV[3]) then
            user = redis.call('GETRANGE', KEYS[1], 141 + at, 140 + at + length)
        end
    end
    redis.call('ZREM', KEYS[2], string.sub(KEYS[1], #KEYS[2] + 2))
    if redis.call('DEL', KEYS[1]) == 0 then return 'gone' end
    local inserted = string.sub(there, 2, 13)
    inserted = inserted .. string.rep('\0', 12 - #inserted)
    redis.call('SET', KEYS[1], 'g' .. inserted .. ARGV[1] .. user, 'PX', ARGV[2])
    return { 'stored', user }
    ",
);

/// Removes a row that has expired at a time, and its entry in the list.
///
/// Keys: row, list. Values: the time.
pub(super) static PRUNE: Script = Script::new(
    r"
    local id = string.sub(KEYS[1], #KEYS[2] + 2)
    local expiration = redis.call('ZSCORE', KEYS[2], id)
    if not expiration or tonumber(expiration) > tonumber(ARGV[1]) then return 'conflict' end
    if tonumber(expiration) < 0 then return 'gone' end
    redis.call('ZREM', KEYS[2], id)
    redis.call('DEL', KEYS[1])
    return 'stored'
    ",
);
