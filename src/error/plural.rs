//! A number with its noun, in messages.

/// `1 call`, `2 calls`, `0 calls`: for nouns whose plural ends in `s`.
pub(crate) fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_has_no_s() {
        assert_eq!(counted(0_u64, "call"), "0 calls");
        assert_eq!(counted(1_usize, "call"), "1 call");
        assert_eq!(counted(12_usize, "open file"), "12 open files");
    }
}
