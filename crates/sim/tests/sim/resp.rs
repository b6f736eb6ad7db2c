//! As much of Redis' protocol as a link needs: where a request and a reply end.

/// A request: its words.
pub(crate) type Words = Vec<Vec<u8>>;

/// The first request of `bytes` and how long it is; `None` where it is not whole yet.
pub(crate) fn request(bytes: &[u8]) -> Option<(Words, usize)> {
    assert!(bytes.first().is_none_or(|byte| *byte == b'*'), "not a request");
    let (count, mut at) = header(bytes, 0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, start) = header(bytes, at)?;
        let end = start + usize::try_from(length).expect("a length");
        words.push(bytes.get(start..end)?.to_vec());
        at = end + 2;
    }
    (at <= bytes.len()).then_some((words, at))
}

/// The number in the line at `at`, and where the next line begins.
fn header(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let number = std::str::from_utf8(&rest[1..end]).expect("a number").parse().expect("a number");
    Some((number, at + end + 2))
}

/// How long the first reply of `bytes` is; `None` where it is not whole yet.
pub(crate) fn reply_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut left = 1i64;
    while left > 0 {
        left -= 1;
        let line = bytes.get(at..)?;
        let end = line.windows(2).position(|two| two == b"\r\n")?;
        match line[0] {
            b'$' => {
                let (length, start) = header(bytes, at)?;
                at = start + usize::try_from(length).map_or(0, |length| length + 2);
            }
            b'*' => {
                let (count, start) = header(bytes, at)?;
                left += count.max(0);
                at = start;
            }
            b'+' | b'-' | b':' => at += end + 2,
            other => panic!("not a reply of RESP2: {:?}", char::from(other)),
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// A request as it goes over the wire.
pub(crate) fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A reply as texts, depth first; an absent value is ''.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(Vec<u8>),
    List(Vec<Reply>),
}

impl Reply {
    /// Reads the reply that fills `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self::at(bytes, &mut 0)
    }

    fn at(bytes: &[u8], at: &mut usize) -> Self {
        let kind = bytes[*at];
        let end = *at + bytes[*at..].windows(2).position(|two| two == b"\r\n").expect("a line");
        let line = &bytes[*at + 1..end];
        match kind {
            b'$' => {
                let (length, start) = header(bytes, *at).expect("a length");
                let Ok(length) = usize::try_from(length) else {
                    *at = start;
                    return Self::Text(Vec::new());
                };
                *at = start + length + 2;
                Self::Text(bytes[start..start + length].to_vec())
            }
            b'*' => {
                let (count, start) = header(bytes, *at).expect("a count");
                *at = start;
                Self::List((0..count.max(0)).map(|_| Self::at(bytes, at)).collect())
            }
            b'-' => panic!("Redis refuses: {}", String::from_utf8_lossy(line)),
            _ => {
                *at = end + 2;
                Self::Text(line.to_vec())
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::List(_) => panic!("a list where a text is expected"),
        }
    }

    pub(crate) fn list(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            Self::Text(_) => panic!("a text where a list is expected"),
        }
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text,
            Self::List(_) => panic!("a list where a text is expected"),
        }
    }

    pub(crate) fn texts(self) -> Vec<String> {
        self.list().iter().map(Self::text).collect()
    }
}
