//! The agreements of the Dockerfile's stages with each other and with the repository. No container
//! engine is needed.

use std::{fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Default)]
struct Stage {
    lines: Vec<(String, String)>,
}

impl Stage {
    /// What follows the first of these words.
    fn the(&self, word: &str) -> &str {
        let mut all = self.all(word);
        all.next()
            .unwrap_or_else(|| panic!("no {word} in {self:?}"))
    }

    fn all(&self, word: &str) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().filter(move |(first, _)| first == word);
        lines.map(|(_, rest)| rest.as_str())
    }

    /// The words of what it runs.
    fn runs(&self) -> Vec<&str> {
        self.all("RUN").flat_map(str::split_whitespace).collect()
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn stages() -> [Stage; 2] {
    let text = read("examples/docker/Dockerfile").replace("\\\n", " ");
    let mut stages = Vec::<Stage>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((word, rest)) = line.split_once(' ') else {
            continue;
        };
        if word == "FROM" {
            stages.push(Stage::default());
        }
        let stage = stages.last_mut().expect("FROM comes first");
        stage.lines.push((word.to_owned(), rest.trim().to_owned()));
    }
    stages.try_into().expect("two stages")
}

/// Such as (1, 95).
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn both_stages_share_the_debian_release_and_the_path_of_the_venv() {
    let [build, image] = stages();
    let from = build.the("FROM").strip_suffix(" AS build").unwrap();
    let (rust, debian) = from.strip_prefix("rust:").unwrap().split_once('-').unwrap();
    assert_eq!(image.the("FROM"), format!("debian:{debian}-slim"));
    assert!(build.runs().contains(&"python3") && image.runs().contains(&"python3"));
    assert!(
        build
            .all("ENV")
            .any(|set| set == "PYO3_PYTHON=/usr/bin/python3")
    );
    let libpython = image
        .runs()
        .into_iter()
        .find_map(|word| word.strip_prefix("libpython"));
    assert!(version(libpython.unwrap()) >= (3, 11));

    let place = build.the("WORKDIR");
    assert_eq!(place, image.the("WORKDIR"));
    assert!(
        build
            .runs()
            .windows(3)
            .any(|words| words == ["-m", "venv", ".venv"])
    );
    let venv = format!("--from=build {place}/.venv .venv");
    assert!(image.all("COPY").any(|copied| copied == venv));

    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let needed = manifest["workspace"]["package"]["rust-version"].as_str();
    assert!(version(rust) >= version(needed.unwrap()));
}

#[test]
fn the_files_that_the_dockerfile_copies_and_builds_exist() {
    let [build, image] = stages();
    let lock = "src/python/requirements.lock";
    assert!(
        build
            .all("COPY")
            .any(|copied| copied == format!("{lock} {lock}"))
    );
    let runs = build.runs();
    assert!(runs.windows(2).any(|words| words == ["-r", lock]));
    assert!(runs.contains(&"--require-hashes") && !read(lock).is_empty());
    let built = runs.iter().position(|word| *word == "--example");
    let example = runs[built.expect("an example") + 1];
    let source = read(&format!("examples/{example}.rs"));
    let binary = format!("/target/release/examples/{example} ");
    assert!(image.all("COPY").any(|copied| copied.contains(&binary)));

    // It listens where the image says, and is started without a shell between.
    let address = image
        .all("ENV")
        .find_map(|set| set.strip_prefix("ADDRESS="));
    assert_eq!(address.unwrap(), format!("0.0.0.0:{}", image.the("EXPOSE")));
    assert!(source.contains("var(\"ADDRESS\")"));
    assert!(image.the("CMD").starts_with('['));
    let ignored = read("examples/docker/Dockerfile.dockerignore");
    for large in [".venv", "target"] {
        assert!(ignored.lines().any(|line| line == large), "{large}");
    }
}
