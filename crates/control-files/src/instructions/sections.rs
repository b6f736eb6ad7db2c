//! Which parts of the file declare what: the sections of the seed's form, and the
//! YAML of the reference's.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Context;
use super::agents::{self, Raw};
use super::blocks::{self, Block, Code, Kind};
use super::settings::{self, Spot};
use super::{goals, yaml};
use crate::suggest::nearest;

/// The level of `## Agents` and `## Goals`.
const SECTION_LEVEL: usize = 2;
/// The level of an agent's or goal's own heading.
const ENTRY_LEVEL: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    Agents,
    Goals,
}

impl Area {
    const ALL: [Self; 2] = [Self::Agents, Self::Goals];

    const fn name(self) -> &'static str {
        match self {
            Self::Agents => "Agents",
            Self::Goals => "Goals",
        }
    }

    const fn entry(self) -> &'static str {
        match self {
            Self::Agents => "agent",
            Self::Goals => "goal",
        }
    }
}

/// A goal's section as written.
pub(super) struct RawGoal {
    pub(super) id: Spot,
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// Everything the file says, unchecked.
#[derive(Default)]
pub(super) struct Written {
    pub(super) agents: Vec<Raw>,
    pub(super) goals: Vec<RawGoal>,
    /// The file as a whole cannot be trusted.
    pub(super) untrusted: bool,
}

/// A heading of entry level with what stands under it.
struct Entry<'b> {
    area: Area,
    heading: Range<usize>,
    blocks: Vec<&'b Block>,
}

/// Finds all sections and blocks that declare something.
pub(super) fn read(context: &mut Context<'_>) -> Written {
    let text = context.source.text();
    let mut written = Written::default();
    if text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty() {
        let help = "write `## Agents` and under it an `### <agent>`; nothing changes until then";
        context.error(&(0..0), "the file is empty", Some(help.to_owned()));
        written.untrusted = true;
        return written;
    }
    let (front, body) = front_matter(text);
    let blocks = blocks::parse(text.get(body..).unwrap_or_default(), body);
    written.untrusted = report_open_blocks(context, &blocks);

    let (entries, areas) = entries(context, &blocks);
    let mut yaml_found = false;
    let code = blocks.iter().filter_map(Block::code).filter(|code| code.fenced);
    for code in front.iter().chain(code).filter(|code| yaml::declares_agents(code)) {
        yaml_found = true;
        written.agents.extend(yaml::agents(context, code));
    }
    report_near_sections(context, &blocks, &areas, yaml_found);
    if areas.is_empty() && !yaml_found {
        let help = "write `## Agents` and under it an `### <agent>`, or a YAML block with an \
                    `agents:` list; nothing changes until then";
        context.error(&(0..0), "this file declares no agents and no goals", Some(help.to_owned()));
        written.untrusted = true;
    }
    for entry in entries {
        take_entry(context, entry, &mut written);
    }
    written
}

fn take_entry(context: &mut Context<'_>, entry: Entry<'_>, written: &mut Written) {
    let (id, title) = match entry.area {
        Area::Agents => (settings::clean_id(context.source.text(), &entry.heading), String::new()),
        Area::Goals => goals::heading(context, &entry.heading),
    };
    if id.text.is_empty() {
        let what = entry.area.entry();
        let help = format!("write the {what}'s name after the ###, or remove the heading");
        context.error(&entry.heading, format!("this heading names no {what}"), Some(help));
        return;
    }
    match entry.area {
        Area::Agents => {
            let raw = agents::from_section(context, id, &entry.blocks);
            // The reference keeps its YAML under a heading, too.
            let only_yaml = raw.settings.is_empty()
                && entry.blocks.iter().filter_map(|block| block.code()).any(yaml::declares_agents);
            if !only_yaml {
                written.agents.push(raw);
            }
        }
        Area::Goals => {
            let blocks = entry.blocks.into_iter().cloned().collect();
            written.goals.push(RawGoal { id, title, blocks });
        }
    }
}

/// Front matter between `---` lines at the very start, and where the rest begins.
fn front_matter(text: &str) -> (Option<Code>, usize) {
    let bom = text.len() - text.trim_start_matches('\u{feff}').len();
    let mut at = bom;
    let mut start = None;
    for line in text.get(bom..).unwrap_or_default().split_inclusive('\n') {
        let mark = line.trim_end();
        match start {
            None if mark == "---" => start = Some(at + line.len()),
            None => break,
            Some(start) if mark == "---" || mark == "..." => {
                let inside = text.get(start..at).unwrap_or_default();
                // Two rules with prose between them are no front matter.
                if !inside.lines().any(|line| line.trim_end().ends_with(':') || line.contains(": "))
                {
                    break;
                }
                let mut code = Code::verbatim(inside, start);
                code.language = "yaml".to_owned();
                return (Some(code), at + line.len());
            }
            Some(_) => {}
        }
        at += line.len();
    }
    (None, bom)
}

/// Reports fences and comments that are never closed: they swallow the rest.
fn report_open_blocks(context: &mut Context<'_>, blocks: &[Block]) -> bool {
    let mut found = false;
    for block in blocks {
        if blocks::is_closed(&block.kind, context.source.slice(&block.range)) {
            continue;
        }
        found = true;
        let what = if block.kind == Kind::Html { "comment" } else { "code block" };
        let message = format!("this {what} is never closed: it swallows the rest of the file");
        context.error(&block.range, message, Some("close it where it should end".to_owned()));
    }
    found
}

/// The name of a section's heading, for comparing.
fn section_name(context: &Context<'_>, block: &Block) -> String {
    let range = block.inline.clone().unwrap_or(block.range.start..block.range.start);
    settings::normal_key(context.source.slice(&range).trim().trim_end_matches(':'))
}

fn area_of(name: &str) -> Option<Area> {
    Area::ALL.into_iter().find(|area| area.name().eq_ignore_ascii_case(name))
}

fn entries<'b>(context: &mut Context<'_>, blocks: &'b [Block]) -> (Vec<Entry<'b>>, BTreeSet<Area>) {
    let (mut entries, mut areas) = (Vec::<Entry<'b>>::new(), BTreeSet::new());
    let mut area = None;
    // Whether the last entry still takes what follows.
    let mut inside = false;
    for block in blocks {
        match (&block.kind, area) {
            (Kind::Heading(level), _) if *level <= SECTION_LEVEL => {
                let name = section_name(context, block);
                area = area_of(&name).filter(|_| *level == SECTION_LEVEL);
                areas.extend(area);
                inside = false;
            }
            (Kind::Heading(ENTRY_LEVEL), Some(area)) => {
                let end = block.range.start + ENTRY_LEVEL;
                let heading = block.inline.clone().unwrap_or(end..end);
                entries.push(Entry { area, heading, blocks: Vec::new() });
                inside = true;
            }
            (_, None) => {}
            (kind, Some(area)) => match entries.last_mut().filter(|_| inside) {
                Some(entry) => entry.blocks.push(block),
                None => report_stray(context, area, kind, &block.range),
            },
        }
    }
    (entries, areas)
}

/// What stands between a section's heading and its first entry.
fn report_stray(context: &mut Context<'_>, area: Area, kind: &Kind, range: &Range<usize>) {
    let what = area.entry();
    let help = Some(format!("put `### <{what}>` above it"));
    match (area, kind) {
        (_, Kind::Heading(_)) => {
            let message = format!("a heading of this level declares no {what}");
            context.error(range, message, Some(format!("write it as `### <{what}>`")));
        }
        (Area::Agents, Kind::List) => {
            context.error(range, "this list belongs to no agent", help);
        }
        (Area::Goals, Kind::List) => {
            context.warning(range, "this list belongs to no goal", help);
        }
        (
            Area::Agents | Area::Goals,
            Kind::Paragraph | Kind::Item | Kind::Code(_) | Kind::Html | Kind::Other,
        ) => {}
    }
}

/// A heading that is nearly `## Agents` or `## Goals` where that one is missing:
/// half typed or misspelt, so what it held must not count as removed.
fn report_near_sections(
    context: &mut Context<'_>,
    blocks: &[Block],
    areas: &BTreeSet<Area>,
    yaml_found: bool,
) {
    for block in blocks {
        let Kind::Heading(level) = block.kind else { continue };
        let name = section_name(context, block);
        let missing = Area::ALL.into_iter().filter(|area| !areas.contains(area));
        let Some(near) = nearest(&name, missing.map(Area::name)) else { continue };
        let help = Some(format!("to declare them, write `## {near}`"));
        let range = block.inline.clone().unwrap_or_else(|| block.range.clone());
        let singular = name.eq_ignore_ascii_case("goal") || name.eq_ignore_ascii_case("agent");
        let enough = !areas.is_empty() || yaml_found;
        if level != SECTION_LEVEL || (singular && enough) {
            if level <= ENTRY_LEVEL && !enough {
                context.warning(&range, "this heading declares nothing", help);
            }
            continue;
        }
        context.error(&range, "this heading declares nothing", help);
    }
}
