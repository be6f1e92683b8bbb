// A table of text that the browser read itself: cells, kinds of columns, and the figures of a registration.
//
// The rules are those of the readers of data sets (hanse.readers): the same separators, the same words for
// "nothing there", the same kinds. Nothing here reaches the network.

const MISSING = new Set(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "--"]);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?inf(inity)?$/i;
const COMMA = /^[+-]?\d{1,12},\d+$/;
const DATE = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$/;
const TRUTH = new Set(["true", "false"]);
const HEADS = new Set(["clade_name", "#clade_name", "clade", "feature", "features", "feature_id", "taxon", "taxa", "taxonomy", "lineage", "otu", "otu_id", "#otu id", "asv", "asv_id"]);
const MOSTLY = 0.9; // from this share of numbers on, a column of numbers and text is taken for a mistake
const CLASSES = 20; // a numeric target with more distinct values is a measurement, not a class

/** What a file cannot be read for; its message is shown. */
export class Unreadable extends Error {}

/** A record for each line: RFC 4180, so a quoted cell may hold separators, quotes (doubled) and line ends. */
function records(text, separator) {
  const found = [];
  let record = [], at = 0, line = 1;
  while (at <= text.length) {
    let cell;
    if (text[at] === '"') {
      const from = line;
      let end = at + 1, closed = false;
      for (cell = ""; end < text.length; end++) {
        if (text[end] === "\n") line++;
        if (text[end] !== '"') continue;
        cell += text.slice(at + 1, end);
        if (text[end + 1] !== '"') { closed = true; break; }
        at = end++; // of two quotes the second stands for itself
      }
      if (!closed) throw new Unreadable(`the quote that opens on line ${from} is never closed`);
      at = end + 1;
      if (at < text.length && ![separator, "\n", "\r"].includes(text[at])) throw new Unreadable(`line ${line}: text follows a closing quote`);
    } else {
      let end = at;
      while (end < text.length && text[end] !== separator && text[end] !== "\n") end++;
      cell = text.slice(at, end);
      if (cell.includes('"')) throw new Unreadable(`line ${line}: a quote stands within a cell`);
      at = end;
    }
    if (text[at] === "\r") at++;
    record.push(cell.endsWith("\r") ? cell.slice(0, -1) : cell);
    const ends = at >= text.length || text[at] === "\n";
    if (ends) {
      if (at < text.length || record.length > 1 || record[0] !== "") found.push({ line, cells: record }); // not what follows the last line's end
      record = [];
      line++;
    }
    at++;
  }
  return found;
}

/** Names and columns (of text, null where nothing is there) of a CSV or TSV file. */
export function read(file, text) {
  const plain = text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  if (plain.includes("\0")) throw new Unreadable("this is no text file");
  const tabs = /\.(tsv|tab)$/i.test(file) || (/\.txt$/i.test(file) && plain.slice(0, Math.max(0, plain.indexOf("\n"))).includes("\t"));
  if (!plain.trim()) throw new Unreadable("it is empty; its first line should name the columns");
  const [head, ...rows] = records(plain, tabs ? "\t" : ",");
  if (head.cells.some((name) => name.includes("\r"))) throw new Unreadable("its lines end with a carriage return alone; save it with line feeds");
  const names = head.cells.map((name) => name.trim());
  if (names.length === 1 && /[;\t]/.test(names[0])) throw new Unreadable("its cells are separated by something else than " + (tabs ? "tabs" : "commas"));
  const odd = rows.find((row) => row.cells.length !== names.length);
  if (odd) throw new Unreadable(`line ${odd.line} has ${odd.cells.length} cells, the header has ${names.length}`);
  const columns = names.map((_, i) => rows.map(({ cells }) => (MISSING.has(cells[i].trim()) ? null : cells[i].trim())));
  return { names, columns, rows: rows.length };
}

const unique = (table, file) => {
  const twice = table.names.find((name, i) => table.names.indexOf(name) !== i);
  if (twice !== undefined) throw new Unreadable(`${file}: two columns are called "${twice}"`);
  if (table.names.includes("")) throw new Unreadable(`${file}: column ${table.names.indexOf("") + 1} has no name`);
  return table;
};

/** Numeric, boolean, date, categorical or open (no value), or why a column is none of them. */
function kind(values) {
  const present = values.filter((one) => one !== null), numbers = present.filter((one) => NUMBER.test(one)).length;
  if (!present.length) return { kind: "open" };
  if (numbers === present.length) return { kind: "numeric" };
  if (present.every((one) => TRUTH.has(one.toLowerCase()))) return { kind: "boolean" };
  if (present.every((one) => DATE.test(one))) return { kind: "date" };
  if (present.some((one) => COMMA.test(one)) && present.every((one) => NUMBER.test(one) || COMMA.test(one))) return { kind: "categorical", wrong: "numbers with a decimal comma: write decimal points" };
  if (numbers >= MOSTLY * present.length) return { kind: "categorical", wrong: `${numbers} of ${present.length} values are numbers, the others are not: correct them, or declare the column categorical` };
  return { kind: "categorical" };
}

/** A table whose columns have kinds; `metadata` are the columns that came from a metadata file. */
function typed(names, columns, rows, metadata = []) {
  return { rows, metadata, columns: names.map((name, i) => ({ name, values: columns[i], ...kind(columns[i]) })) };
}

export function table(file, text) {
  const { names, columns, rows } = unique(read(file, text), file);
  return typed(names, columns, rows);
}

const common = (left, right) => { const known = new Set(left); return new Set(right.filter((one) => known.has(one))).size; };

/** Profile and metadata, joined by the sample id as the node joins them; samples in one file only are left out. */
export function joined(profileFile, profileText, metadataFile, metadataText) {
  const facts = unique(read(metadataFile, metadataText), metadataFile), profile = read(profileFile, profileText);
  const [side, ...cells] = profile.columns, [first, ...head] = profile.names;
  const rank = (ids) => facts.columns.map((column) => common(ids, column));
  const best = { head: Math.max(0, ...rank(head)), side: Math.max(0, ...rank(side)) };
  const named = HEADS.has(first.trim().toLowerCase());
  if (!named && (best.head === best.side || Math.max(best.head, best.side) < Math.min(3, Math.max(1, facts.rows)))) throw new Unreadable(`cannot tell features from samples: neither the columns nor the rows of ${profileFile} are named like the samples in ${metadataFile}; call the first column "clade_name" if features are rows`);
  const byFeature = named || best.head > best.side;
  const samples = byFeature ? head : side, features = byFeature ? side : head;
  if (new Set(features).size !== features.length) throw new Unreadable(`${profileFile}: a feature stands twice`);
  const fits = rank(samples), most = Math.max(...fits), id = fits.indexOf(most);
  if (!most || fits.lastIndexOf(most) !== id) throw new Unreadable(`${metadataFile}: ${most ? "two columns fit the sample ids equally well" : "no column has the sample ids"} of ${profileFile}`);
  const ids = facts.columns[id];
  for (const [name, list] of [[profileFile, samples], [metadataFile, ids]]) {
    if (list.some((one) => one === null)) throw new Unreadable(`${name}: a sample has no id`);
    if (new Set(list).size !== list.length) throw new Unreadable(`${name}: sample ids stand more than once`);
  }
  const place = new Map(samples.map((one, i) => [one, i])), rows = ids.flatMap((one, i) => (place.has(one) ? [i] : []));
  const at = rows.map((row) => place.get(ids[row]));
  const values = features.map((_, f) => at.map((s) => (byFeature ? cells[s][f] : cells[f][s])));
  const found = typed([...facts.names, ...features], [...facts.columns.map((column) => rows.map((row) => column[row])), ...values], rows.length, facts.names);
  return { ...found, told: `${rows.length} samples are in both files (${samples.length} in the profile, ${facts.rows} in the metadata); ${byFeature ? "features are rows" : "samples are rows"}, "${facts.names[id]}" holds the sample ids` };
}

/** What a registration says of the table: exact, so for its owner's eyes. */
export function figures(given, target) {
  const features = given.columns.filter(({ name }) => name !== target && !given.metadata.includes(name));
  let sparse = 0;
  for (const { kind: of, values } of features) for (const one of values) if (one === null || (of === "numeric" && Number(one) === 0) || (of === "boolean" && one.toLowerCase() === "false")) sparse++;
  const cells = features.length * given.rows, sparsity = cells ? sparse / cells : null;
  const label = given.columns.find(({ name }) => name === target), classes = new Map();
  for (const one of label?.values ?? []) {
    const name = one === null ? null : label.kind === "numeric" ? String(Number(one)) : label.kind === "boolean" ? one.toLowerCase() : one;
    if (name !== null) classes.set(name, (classes.get(name) ?? 0) + 1);
  }
  const measured = label?.kind === "date" || (label?.kind === "numeric" && classes.size > CLASSES);
  return { samples: given.rows, features: features.length, sparsity, coverage: sparsity === null ? null : 1 - sparsity, measured, classes: measured ? new Map() : classes };
}
