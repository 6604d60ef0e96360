"""What pyarrow reads from small parquet files, as img2dataset and the Hugging Face hub have them.

    python tests/reference/parquet.py      (from the repository root)

Writes tests/fixtures/parquet/: `0.parquet` with img2dataset's columns in row groups of three rows, `1.parquet` with
other compression, pages, types and no statistics, `nested.parquet` with images in a struct and lists of captions, and
`rows.json` with all rows as pyarrow reads them.
"""

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path("tests/fixtures/parquet")


def image(i):
    return bytes([i, 255 - i]) * (20 + i)


def write(name, columns, schema, rows_per_group, **options):
    table = pa.Table.from_pydict(columns, schema)
    with pq.ParquetWriter(OUT / name, schema, **options) as writer:
        # One call for each group, as img2dataset's buffered writer has it.
        for start in range(0, len(table), rows_per_group):
            writer.write_table(table.slice(start, rows_per_group))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    success, failed = "success", "failed_to_download"
    schema = pa.schema([
        ("url", pa.string()), ("key", pa.string()), ("status", pa.string()), ("width", pa.int32()),
        ("caption", pa.string()), ("jpg", pa.binary()),
    ])
    images = [image(i) for i in range(8)]
    images[1] = images[3] = None
    captions = [f"caption {i} ü" for i in range(8)]
    captions[4], captions[6] = None, " "
    write("0.parquet", {
        "url": [f"http://host/{i}.jpg" for i in range(8)],
        "key": [f"{i:09d}" for i in range(8)],
        "status": [failed if image is None else success for image in images],
        "width": [None if image is None else 32 for image in images],
        "caption": captions,
        "jpg": images,
    }, schema, 3)

    schema = pa.schema([
        ("caption", pa.large_string()), ("jpg", pa.large_binary()), pa.field("key", pa.string(), nullable=False),
    ])
    write("1.parquet", {
        "key": [f"1{i:08d}" for i in range(5)],
        "caption": ["same"] * 5,
        "jpg": [image(10), None, image(12), image(13), image(14)],
    }, schema, 5, compression="zstd", data_page_version="2.0", write_statistics=False)

    schema = pa.schema([
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("texts", pa.list_(pa.string())),
        ("title", pa.string()),
    ])
    write("nested.parquet", {
        "image": [{"bytes": image(i), "path": f"{i}.jpg"} for i in range(20, 24)] + [None],
        "texts": [["a", "b", "c"], [], None, [None, "d"], ["e"]],
        "title": ["t0", "t1", "t2", "t3", "t4"],
    }, schema, 5, compression="gzip", use_dictionary=False)

    rows = {}
    for path in sorted(OUT.glob("*.parquet")):
        rows[path.name] = pq.read_table(path).to_pylist()
    latin = lambda value: value.decode("latin-1") if isinstance(value, bytes) else str(value)
    (OUT / "rows.json").write_text(json.dumps(rows, indent=1, default=latin) + "\n")


if __name__ == "__main__":
    main()
