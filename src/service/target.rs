//! The name of a program: what is wrong with one that cannot be loaded.

/// What is wrong with a target, and what to write instead; `None` if it may be the name of an attribute
/// in a module, or a signature.
pub(super) fn problem(target: &str) -> Option<String> {
    if target.contains("->") {
        return None;
    }
    let forms =
        "it is neither `package.module:attribute` nor a signature such as `question -> answer`";
    let Some((module, attribute)) = target.split_once(':') else {
        if let Some(module) = module_of_path(target) {
            return Some(format!(
                "it is the path of a file, and names no program in it: write \
                 `{module}:Program`, with the name of the class or function in the file"
            ));
        }
        return Some(match target.rsplit_once('.') {
            Some((module, attribute)) if is_dotted(target) => {
                format!("{forms}; did you mean `{module}:{attribute}`?")
            }
            _ => forms.to_owned(),
        });
    };
    if let Some(module) = module_of_path(module) {
        return Some(format!(
            "it has the path of a file: write it as Python imports it, `{module}:{attribute}`"
        ));
    }
    let attribute = attribute.trim_start_matches(':');
    let name = attribute.split('(').next().unwrap_or_default();
    let meant = format!("{}:{}", module.trim(), name.trim());
    if !is_dotted(module.trim()) || !is_dotted(name.trim()) {
        return Some(forms.to_owned());
    }
    (meant != target).then(|| format!("{forms}; did you mean `{meant}`?"))
}

/// The name by which Python imports the file at this path; `None` if it is no path of a Python file.
fn module_of_path(path: &str) -> Option<String> {
    let is_file = path.ends_with(".py");
    if !is_file && !path.contains(['/', '\\']) {
        return None;
    }
    let path = path.strip_suffix(".py").unwrap_or(path);
    let path = path.strip_suffix("/__init__").unwrap_or(path);
    let parts = path.split(['/', '\\']);
    let parts: Vec<_> = parts
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    Some(parts.join("."))
}

/// Whether it is names with dots between them.
fn is_dotted(text: &str) -> bool {
    text.split('.').all(|name| {
        let starts = name.starts_with(|c: char| c == '_' || c.is_alphabetic());
        starts && name.chars().all(|c| c == '_' || c.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes_and_signatures_are_accepted() {
        for target in [
            "qa:Program",
            "my_pkg.qa:Holder.nested",
            "question -> answer: str",
            "a: str -> b/c",
        ] {
            assert_eq!(problem(target), None, "{target}");
        }
    }

    #[test]
    fn the_problem_says_what_to_write_instead() {
        for (target, meant) in [
            ("programs/qa.py", "`programs.qa:Program`"),
            ("./programs/qa.py:Ask", "`programs.qa:Ask`"),
            ("qa.py:Ask", "`qa:Ask`"),
            ("programs/qa:Ask", "`programs.qa:Ask`"),
            ("programs/__init__.py:Ask", "`programs:Ask`"),
            ("my_pkg.qa.Program", "did you mean `my_pkg.qa:Program`?"),
            ("qa::Program", "did you mean `qa:Program`?"),
            ("qa:Program()", "did you mean `qa:Program`?"),
            (" qa:Program", "did you mean `qa:Program`?"),
            ("qa:", "neither"),
            ("qa", "neither"),
            ("my-pkg:Program", "neither"),
        ] {
            let problem = problem(target).expect(target);
            assert!(problem.contains(meant), "{target}: {problem}");
        }
    }
}
